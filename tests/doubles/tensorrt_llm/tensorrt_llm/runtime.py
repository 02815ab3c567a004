"""The part of the double that runs beside the event loop, in a thread of its own, in steps."""

from __future__ import annotations

import importlib
import math
import threading
from dataclasses import dataclass, field
from typing import Any

from . import writer
from .errors import RequestError
from .llm_args import TorchLlmArgs
from .result import IterationResult, Logprob, RequestOutput, Response
from .sampling_params import SamplingParams

_STEP_S = 0.0005
_CANDIDATES = 12
_SPREAD = 0.9
_FAR = -20.0


@dataclass
class Sequence:
    """One request in the batch."""

    output: RequestOutput
    prompt_ids: list[int]
    params: SamplingParams
    script: list[int]
    cached_tokens: int
    written: list[int] = field(default_factory=list)
    begun: bool = False


class Runtime:
    """Continuous batching: each step gives every running sequence its next token."""

    def __init__(self, args: TorchLlmArgs, tokenizer: Any) -> None:
        self._args = args
        self._tokenizer = tokenizer
        self._vocabulary = len(tokenizer)
        self._changed = threading.Condition()
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []
        self._blocks: set[tuple[int, ...]] = set()
        self._requests = 0
        self._stopped = False
        self.stats: IterationResult | None = None
        self.events: IterationResult | None = None
        self.silent = False
        """Nothing comes any more, and no error either: a worker that has died."""
        self.steps = 0
        self.reused = 0
        self.missed = 0
        self._thread = threading.Thread(target=self._run, name="double", daemon=True)
        self._thread.start()

    @property
    def active(self) -> int:
        """Sequences that run or wait."""
        with self._changed:
            return len(self._running) + len(self._waiting)

    def add(self, output: RequestOutput, params: SamplingParams) -> None:
        with self._changed:
            self._requests += 1
            error = self._refusal(output, params)
            if error is None:
                try:
                    sequence = self._open(output, params)
                except RequestError as refused:
                    error = refused
                else:
                    self._waiting.append(sequence)
                    self._changed.notify_all()
            if error is not None and output.aqueue is not None:
                output.aqueue.put(Response(error=error))

    def abort(self, request_id: int) -> None:
        with self._changed:
            for queue in (self._waiting, self._running):
                for sequence in [each for each in queue if each.output.request_id == request_id]:
                    queue.remove(sequence)
                    self._put(sequence, Response(finish_reason="cancelled"))

    def fail(self, error: Exception) -> None:
        """A serious error: the first result that is read next hears of it, and nobody else."""
        with self._changed:
            if self._running:
                self._put(self._running[0], Response(error=error))
            self.silent = True

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _refusal(self, output: RequestOutput, params: SamplingParams) -> RequestError | None:
        longest = self._args.max_seq_len or 4096
        if len(output.prompt_token_ids) >= longest:
            return RequestError(f"The prompt length ({len(output.prompt_token_ids)}) should be less than {longest}")
        if params.guided_decoding is not None and self._args.guided_decoding_backend is None:
            return RequestError("guided decoding is not enabled")
        bias = params.embedding_bias
        if bias is not None and bias.shape != (self._vocabulary_of_model(),):
            return RequestError(f"embedding_bias must have {self._vocabulary_of_model()} entries")
        return None

    def _vocabulary_of_model(self) -> int:
        return self._vocabulary + int(importlib.import_module("transformers").PADDING)

    def _open(self, output: RequestOutput, params: SamplingParams) -> Sequence:
        ids = output.prompt_token_ids
        start = len(ids) - ids[::-1].index(self._tokenizer.id_of("<|assistant|>"))
        written = ids[start:]
        prompt = self._tokenizer.decode(ids[:start])
        # One of the samplers has one generator for all requests, whatever they ask for.
        sampled = (params.seed or 0) if self._heeds_seeds() else self._requests
        seed = 0 if params.greedy else sampled
        if params.guided_decoding is not None:
            text = writer.held(params.guided_decoding, writer.seed_of(prompt, seed))
        else:
            text = writer.answer(prompt, seed, family=self._tokenizer.family)
        return Sequence(output, ids, params, self._script(text, written), self._reuse(ids))

    def _heeds_seeds(self) -> bool:
        return self._args.sampler_type == "TRTLLMSampler"

    def _script(self, text: str, written: list[int]) -> list[int]:
        """The tokens that come after those that were written before."""
        script: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        before = b"".join(map(self._tokenizer.bytes_of, written))
        place = 0
        while place < len(script) and before:
            piece = self._tokenizer.bytes_of(script[place])
            if not before.startswith(piece):
                rest = piece[len(before) :] if piece.startswith(before) else b""
                return [*self._tokenizer.encode(rest.decode(errors="replace"), False), *script[place + 1 :]]
            before = before[len(piece) :]
            place += 1
        return script[place:]

    def _reuse(self, ids: list[int]) -> int:
        size = self._args.kv_cache_config.tokens_per_block
        blocks = [tuple(ids[: end + size]) for end in range(0, len(ids) - size, size)]
        found = 0
        while found < len(blocks) and blocks[found] in self._blocks:
            found += 1
        new = blocks[found:]
        self.reused += found
        self.missed += len(new)
        if self._args.kv_cache_config.enable_block_reuse:
            self._blocks.update(new)
            if self.events is not None and new and self._args.kv_cache_config.event_buffer_max_size:
                stored = [{"block_hash": hash(block), "tokens": []} for block in new]
                self.events.put({"event_id": self._requests, "data": {"type": "stored", "blocks": stored}})
        return found * size

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._running) and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                if not self.silent:
                    self._step()
                self._changed.wait(_STEP_S)

    def _step(self) -> None:
        self.steps += 1
        room = (self._args.max_batch_size or 1) - len(self._running)
        self._running += self._waiting[:room]
        del self._waiting[:room]
        for sequence in list(self._running):
            self._advance(sequence)
        if self._args.enable_iter_perf_stats and self.stats is not None:
            self.stats.put(self._statistics())

    def _advance(self, sequence: Sequence) -> None:
        response = Response(cached_tokens=sequence.cached_tokens)
        # The first token always comes alone.
        for _ in range(self._args.stream_interval if sequence.begun else 1):
            token, logprobs = self._next(sequence)
            sequence.written.append(token)
            response.token_ids.append(token)
            if sequence.params.logprobs:
                response.logprobs.append(logprobs)
            response.finish_reason = self._finish(sequence, token)
            if response.finish_reason is not None:
                self._running.remove(sequence)
                break
        sequence.begun = True
        self._put(sequence, response)

    def _finish(self, sequence: Sequence, token: int) -> str | None:
        total = len(sequence.prompt_ids) + len(sequence.written)
        if token == self._tokenizer.eos_token_id:
            return "stop"
        if len(sequence.written) >= sequence.params.max_tokens or total >= (self._args.max_seq_len or 4096):
            return "length"
        return None

    def _next(self, sequence: Sequence) -> tuple[int, dict[int, Logprob]]:
        place = len(sequence.written)
        script = sequence.script
        wanted = script[place] if place < len(script) else self._tokenizer.eos_token_id
        scores = {wanted: 0.0}
        for at in range(1, _CANDIDATES):
            other = writer.seed_of(wanted, place, at) % 256
            scores.setdefault(other, -_SPREAD * at - 1)
        params = sequence.params
        if params.guided_decoding is None:
            if params.embedding_bias is not None:
                for token, bias in params.embedding_bias.items():
                    scores[token] = scores.get(token, _FAR) + bias
            if self._heeds_seeds():
                for token in scores:
                    count = sequence.written.count(token)
                    scores[token] -= count * (params.frequency_penalty or 0) + (count > 0) * (
                        params.presence_penalty or 0
                    )
        ranked = sorted(scores.items(), key=lambda item: -item[1])
        total = math.log(sum(math.exp(score - ranked[0][1]) for _, score in ranked)) + ranked[0][1]
        most = params.logprobs or 0
        return ranked[0][0], {
            token: Logprob(score - total, rank) for rank, (token, score) in enumerate(ranked[:most], start=1)
        }

    def _statistics(self) -> dict[str, Any]:
        size = self._args.kv_cache_config.tokens_per_block
        used = sum(-(-(len(each.prompt_ids) + len(each.written)) // size) for each in self._running)
        return {
            "iter": self.steps,
            "numActiveRequests": len(self._running),
            "numQueuedRequests": len(self._waiting),
            "maxNumActiveRequests": self._args.max_batch_size,
            "kvCacheStats": {
                "usedNumBlocks": used,
                "maxNumBlocks": 1000,
                "freeNumBlocks": 1000 - used,
                "reusedBlocks": self.reused,
                "missedBlocks": self.missed,
                "tokensPerBlock": size,
                "cacheHitRate": self.reused / max(1, self.reused + self.missed),
            },
        }

    def _put(self, sequence: Sequence, response: Response) -> None:
        if sequence.output.aqueue is not None and not self.silent:
            sequence.output.aqueue.put(response)
