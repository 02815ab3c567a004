"""Log-probabilities: one per token, and their sum as a measure of how sure a model is."""

from __future__ import annotations

from services.inference.conformance.case import Case, needs
from services.inference.conformance.expectation import expect, quote
from services.inference.conformance.subject import Subject
from services.inference.model import Capability, TokenLogprob

_LIMIT = 12
_EPSILON = 1e-3
_LOGPROBS = needs(Capability.LOGPROBS)


def _look_at(logprob: TokenLogprob, asked: int) -> None:
    expect(logprob.logprob <= _EPSILON, f"a log-probability is {logprob.logprob}, more than 0")
    top = [other.logprob for other in logprob.top]
    expect(len(top) == asked, f"{len(top)} likeliest tokens came, and {asked} were asked for")
    expect(top == sorted(top, reverse=True), "the likeliest tokens are not in order")
    expect(all(value <= _EPSILON for value in top), "a log-probability is more than 0")
    for each in (logprob, *logprob.top):
        whole = each.data.decode(errors="replace")
        expect(each.token == whole or "\ufffd" in whole, f"a token is {quote(each.token)} and its bytes {quote(whole)}")


async def _each_token(subject: Subject) -> None:
    for asked in (0, 1, 5):
        answer = await subject.ask(subject.long_prompt, max_tokens=_LIMIT, top_logprobs=asked)
        expect(
            len(answer.logprobs) == answer.tokens == _LIMIT, f"{len(answer.logprobs)} came for {answer.tokens} tokens"
        )
        for logprob in answer.logprobs:
            _look_at(logprob, asked)
        expect(any(logprob.logprob < 0 for logprob in answer.logprobs), "a model is sure of every token")


async def _likeliest(subject: Subject) -> None:
    answer = await subject.ask(subject.long_prompt, max_tokens=_LIMIT, top_logprobs=3)
    for logprob in answer.logprobs:
        best = logprob.top[0]
        expect(
            logprob.logprob >= best.logprob - _EPSILON,
            f"at temperature 0 {quote(logprob.token)} came, and {quote(best.token)} was likelier",
        )


async def _spell(subject: Subject) -> None:
    for prompt in (subject.long_prompt, subject.unicode_prompt):
        answer = await subject.ask(prompt, max_tokens=_LIMIT, top_logprobs=0)
        spelled = b"".join(logprob.data for logprob in answer.logprobs).decode(errors="ignore")
        # The first token of some vocabularies has a space that is not shown, and the last may be the end.
        expect(
            spelled.strip().startswith(answer.text.strip()),
            f"the tokens spell {quote(spelled)} and the answer is {quote(answer.text)}",
        )


async def _held_back(subject: Subject) -> None:
    plain = await subject.ask(subject.long_prompt, max_tokens=_LIMIT, top_logprobs=0)
    stops = tuple(f"{character}\x01" for character in sorted(set(plain.text))[-8:])
    held = await subject.ask(subject.long_prompt, max_tokens=_LIMIT, top_logprobs=0, stop=stops)
    expect(len(held.logprobs) == held.tokens, f"{len(held.logprobs)} came for {held.tokens} tokens")


async def _confidence(subject: Subject) -> None:
    sure = await subject.ask(subject.long_prompt, max_tokens=_LIMIT, confidence=True)
    expect(not sure.logprobs, "log-probabilities of tokens came, and only their sum was asked for")
    total = sum(delta.logprob_sum or 0.0 for delta in sure.deltas)
    expect(total < 0, f"the log-probabilities add up to {total}")
    both = await subject.ask(subject.long_prompt, max_tokens=_LIMIT, confidence=True, top_logprobs=1)
    expect(any(delta.logprob_sum is not None for delta in both.deltas), "no logprob_sum came beside log-probabilities")
    plain = await subject.ask(max_tokens=4)
    expect(all(delta.logprob_sum is None for delta in plain.deltas), "a logprob_sum came that nobody asked for")


CASES = (
    Case("logprobs", "every token comes with its log-probability, and with the likeliest ones", _each_token, _LOGPROBS),
    Case("logprobs_greedy", "at temperature 0 the likeliest token is the one that comes", _likeliest, _LOGPROBS),
    Case("logprobs_spell", "the bytes of the tokens are those of the answer", _spell, _LOGPROBS),
    Case("logprobs_held", "a token that is held back comes with its log-probability", _held_back, _LOGPROBS),
    Case("confidence", "deltas say how sure the model was, when asked", _confidence, _LOGPROBS),
)
