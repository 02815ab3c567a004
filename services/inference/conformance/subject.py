"""An engine that the suite is run on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from services.inference.conformance.answer import Answer
from services.inference.engines.engine import Engine
from services.inference.model import Capability, GenerationRequest, Message, Role, Sampling
from services.runtime.model_registry import ModelEntry

_SAMPLING = frozenset(Sampling.__dataclass_fields__)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A started engine, and what is known of it that its capabilities do not say.

    The entry should have a small context and few output tokens, and at least 64 of them: cases run into both limits.
    """

    engine: Engine
    entry: ModelEntry
    repeats: bool = True
    """The same request gives the same answer when it is the only one that runs and its prompt is cached."""
    deterministic: bool = False
    """An answer depends on its request alone, and one that is continued is what it would have been."""
    samples: bool = True
    """With another seed, a temperature above 0 gives another answer."""
    continues: bool = True
    """An answer of which something was shown can be continued. What was declared otherwise skips the cases of it."""
    context_is_small: bool = True
    """A case may fill the context. What was declared otherwise, a large one that is a server's, is not filled."""
    counts_tokens: bool = True
    """With the model's tokenizer. What was declared otherwise estimates them, rather high, and cuts no text."""
    gives_token_ids: bool = True
    tells_cached_tokens: bool | None = True
    """None: as its server pleases."""
    known_token: tuple[int, str] | None = None
    """Id and text of a token, for engines that take biases and give no ids. Without one, their biases are not tried."""
    long_prompt: str = "Tell me a long story about a sailor and the sea."
    """Its answer is longer than the model may write."""
    short_prompt: str = "What is the capital of France?"
    unicode_prompt: str = "Say hi with an emoji 😀"
    """Its answer has characters of several bytes among its first tokens."""
    patience_s: float = 60.0
    """Longest wait for anything."""
    _keys: Iterator[int] = field(default_factory=lambda: itertools.count(1), repr=False)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the engine says that it can."""
        return self.engine.capabilities

    def request(self, prompt: str | tuple[Message, ...] = "", **options: Any) -> GenerationRequest:
        """A request. Options are those of GenerationRequest and of Sampling; without one the temperature is 0."""
        key = next(self._keys)
        sampling: dict[str, Any] = {"temperature": 0.0}
        sampling |= {name: options.pop(name) for name in list(options) if name in _SAMPLING}
        text = prompt or self.short_prompt
        return GenerationRequest(
            key=key,
            generation_id=f"conformance-{key}",
            model=self.entry.name,
            messages=(Message(Role.USER, text),) if isinstance(text, str) else text,
            sampling=Sampling(**sampling),
            **options,
        )

    def start(self, prompt: str | tuple[Message, ...] = "", **options: Any) -> Answer:
        """Begin an answer."""
        request = self.request(prompt, **options)
        answer = Answer(request, self.capabilities)
        self.engine.submit(request, answer.take)
        return answer

    async def ask(self, prompt: str | tuple[Message, ...] = "", **options: Any) -> Answer:
        """A whole answer.

        Raises:
            ConformanceError: it did not come, or broke a rule.
        """
        return await self.start(prompt, **options).finished(patience_s=self.patience_s)
