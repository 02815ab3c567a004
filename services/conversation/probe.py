"""Whether the beginning of an answer is good enough to be shown, or a stronger model shall answer. Pure."""

from __future__ import annotations

from enum import Enum

from services.conversation.route_model import Cascade

MIN_REPEATED_WORDS = 8
"""Words from which on an answer that has hardly any different ones is one that goes round in circles."""
MAX_CIRCLE = 2


class Judgement(Enum):
    """What the beginning of an answer shows."""

    STRONG = "strong"
    WEAK = "weak"


class Probe:
    """Fed with the beginning of an answer, until it can be judged."""

    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        self.judgement: Judgement | None = None
        """None as long as more must be seen."""
        self._openings = tuple(opening.casefold() for opening in cascade.weak_openings)
        self._text = ""
        self._tokens = 0
        self._logprob_sum = 0.0
        self._judged_tokens = 0

    def add_logprob(self, logprob_sum: float, tokens: int) -> None:
        """How sure the model was of some tokens."""
        if self.judgement is None:
            self._logprob_sum += logprob_sum
            self._judged_tokens += tokens

    def add(self, text: str, tokens: int) -> None:
        """More of the answer."""
        self._text += text
        self._tokens += tokens
        if self._begins_weakly():
            self._decide(Judgement.WEAK)
        elif self._tokens >= self.cascade.probe_tokens:
            self._decide(self._judge())

    def end(self) -> None:
        """There will be no more of it."""
        self._decide(self._judge())

    def _decide(self, judgement: Judgement) -> None:
        self.judgement = self.judgement or judgement

    def _judge(self) -> Judgement:
        if not self._text.strip() or self._begins_weakly() or self._goes_in_circles() or self._is_unsure():
            return Judgement.WEAK
        return Judgement.STRONG

    def _begins_weakly(self) -> bool:
        return self._text.lstrip().casefold().startswith(self._openings)

    def _goes_in_circles(self) -> bool:
        words = self._text.split()
        return len(words) >= MIN_REPEATED_WORDS and len(set(words)) <= MAX_CIRCLE

    def _is_unsure(self) -> bool:
        least = self.cascade.min_mean_logprob
        # An engine that does not say how sure it is leaves the rules alone to decide.
        return least is not None and self._judged_tokens > 0 and self._logprob_sum / self._judged_tokens < least
