"""A text in the forms in which the layers read it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from services.moderation.attacks.encodings import Decoded, decoded
from services.moderation.text.normalise import Normalised, for_classifier, normalise


class Reading:
    """A text, and its other forms: each takes a while to make, so it is made once, when it is first asked for."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def normalised(self) -> Normalised:
        """For patterns."""
        return normalise(self.text)

    @cached_property
    def undisguised(self) -> str:
        """For the classifier."""
        return for_classifier(self.text)

    @cached_property
    def decoded(self) -> Sequence[Decoded]:
        """What is encoded in it."""
        return decoded(self.text)
