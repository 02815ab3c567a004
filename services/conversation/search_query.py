"""What a search asks for: the words of its text, and how the database is asked for them. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from services.runtime.errors import DomainError, FieldViolation, Reason

SEPARATORS = (
    r"\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u00d7\u00f7"
    r"\u037e\u0387\u055a-\u055f\u0589-\u058a\u05be\u05f3-\u05f4\u0609-\u060f\u061b-\u061f\u066a-\u066d\u06d4"
    r"\u0964-\u0965\u0e4f\u0e5a-\u0e5b\u104a-\u104f\u1361-\u1368\u1400\u1680\u17d4-\u17d6\u1800-\u180a\u2000-\u206f\u20a0-\u20cf"
    r"\u2190-\u2bff\u2e00-\u2e2e\u2e30-\u2e7f\u3000-\u3004\u3008-\u3020\u3030\u30a0\u30fb\ufe00-\ufe6f\ufeff\uff01-\uff0f"
    r"\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0-\uffff\U0001f000-\U0001f0ff\U0001f10d-\U0001faff"
)
"""What stands between words: punctuation, spaces, signs and emoji. The same list is in the columns `search`."""
WORD = re.compile(f"[^{SEPARATORS}]+")
"""One word of a text."""


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """The words that a text must have, casefolded, and the same as they are given to the database.

    `whole` are the words that must occur as they are, `last` is the one that may be the beginning of a word.
    """

    words: frozenset[str]
    beginning: str
    whole: tuple[str, ...]
    last: str

    def matches(self, word: str) -> bool:
        """Whether a word of a text is one of those that were asked for."""
        folded = word.casefold()
        return folded in self.words or folded.startswith(self.beginning)

    def of_user(self, user_id: str) -> str:
        """The query of the database: a text to be lowered and cast to TSQUERY."""
        # As in the columns `search`: each word opens with the sign of its user.
        sign = hashlib.md5(user_id.encode(), usedforsecurity=False).hexdigest()[:8]
        return " & ".join([*(_any_case(sign, word, "") for word in self.whole), _any_case(sign, self.last, ":*")])


def parse_query(text: str) -> SearchQuery:
    """Read what a user typed.

    Raises:
        DomainError: INVALID_FIELD, when there is no word in it.
    """
    # Who types a superscript or a mark by itself means no word of a text.
    found = WORD.findall(text.replace("\0", " "))
    words = [word for word in found if any(sign.isalpha() or sign.isdecimal() for sign in word)]
    if not words:
        what = "has no letter and no digit to search for"
        raise DomainError(Reason.INVALID_FIELD, f"query: {what}", fields=[FieldViolation("query", what)])
    return SearchQuery(
        words=frozenset(word.casefold() for word in words[:-1]),
        beginning=words[-1].casefold(),
        whole=tuple(words[:-1]),
        last=words[-1],
    )


def _any_case(sign: str, word: str, suffix: str) -> str:
    """A word however it is written: a database whose locale is C changes the case of ASCII letters only.

    There is no quote and no backslash in a word, for these stand between words.
    """
    cases = (word,) if word.isascii() else dict.fromkeys((word, word.lower(), word.capitalize(), word.upper()))
    return "(" + " | ".join(f"'{sign}{case}'{suffix}" for case in cases) + ")"
