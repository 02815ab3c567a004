"""The patterns of the policy: RE2 syntax, less what cannot be decided while text still arrives.

A streamed text is searched before it is complete, so for every pattern one must know which text could still become a
match. `Pattern.beginnings` is a second pattern, made from the first, that matches every beginning of its matches::

    ab+c    ->    (?:a(?:b+(?:c)?)?)?

Where no beginning reaches the end of the text, nothing that arrives later can change what was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class PatternError(ValueError):
    """The pattern is not in the dialect. The text says where and why."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that was understood.

    Attributes:
        source: The pattern in RE2 syntax.
        beginnings: Matches every beginning of a match, the empty one and the whole included.
        min_length: Fewest code points of a match.
        max_length: Most code points of a match; None when there is no bound.
    """

    source: str
    beginnings: str
    min_length: int
    max_length: int | None


def parse_pattern(text: str) -> Pattern:
    """Understand a pattern.

    It may use literals, classes, `.`, escapes, groups, alternatives, `? * + {m,n}`, `\\b` and `\\B`. Groups do not
    capture. Anchors, flags, lazy repeats and look-around are refused.

    Raises:
        PatternError: when it is not in the dialect.
    """
    node = _Parser(text).parse()
    return Pattern(
        source=node.source,
        beginnings=node.beginnings,
        min_length=node.min_length,
        max_length=node.max_length,
    )


class _Node(Protocol):
    @property
    def source(self) -> str: ...
    @property
    def beginnings(self) -> str: ...
    @property
    def min_length(self) -> int: ...
    @property
    def max_length(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class _Character:
    """Anything that matches exactly one code point."""

    source: str
    min_length: int = 1
    max_length: int | None = 1

    @property
    def beginnings(self) -> str:
        return f"(?:{self.source})?"


@dataclass(frozen=True, slots=True)
class _Assertion:
    source: str
    min_length: int = 0
    max_length: int | None = 0

    @property
    def beginnings(self) -> str:
        # At the end of what has arrived, what the next character will be is open: it may hold.
        return ""


@dataclass(frozen=True, slots=True)
class _Sequence:
    nodes: Sequence[_Node]

    @property
    def source(self) -> str:
        return "".join(node.source for node in self.nodes)

    @property
    def beginnings(self) -> str:
        if not self.nodes:
            return ""
        result = self.nodes[-1].beginnings
        for node in reversed(self.nodes[:-1]):
            whole = f"{node.source}(?:{result})" if result else node.source
            result = f"(?:{whole}|{node.beginnings})"
        return result

    @property
    def min_length(self) -> int:
        return sum(node.min_length for node in self.nodes)

    @property
    def max_length(self) -> int | None:
        return _sum([node.max_length for node in self.nodes])


@dataclass(frozen=True, slots=True)
class _Alternatives:
    nodes: Sequence[_Node]

    @property
    def source(self) -> str:
        return f"(?:{'|'.join(node.source for node in self.nodes)})"

    @property
    def beginnings(self) -> str:
        return f"(?:{'|'.join(node.beginnings for node in self.nodes)})"

    @property
    def min_length(self) -> int:
        return min(node.min_length for node in self.nodes)

    @property
    def max_length(self) -> int | None:
        lengths = [node.max_length for node in self.nodes]
        known = [length for length in lengths if length is not None]
        return max(known) if len(known) == len(lengths) else None


@dataclass(frozen=True, slots=True)
class _Repeat:
    node: _Node
    least: int
    most: int | None

    @property
    def source(self) -> str:
        bounds = f"{{{self.least},{'' if self.most is None else self.most}}}"
        return f"(?:{self.node.source}){bounds}"

    @property
    def beginnings(self) -> str:
        if self.most == 0:
            return ""
        before = f"(?:{self.node.source})" + ("*" if self.most is None else f"{{0,{self.most - 1}}}")
        return f"(?:{before}(?:{self.node.beginnings}))"

    @property
    def min_length(self) -> int:
        return self.node.min_length * self.least

    @property
    def max_length(self) -> int | None:
        if self.most is None or self.node.max_length is None:
            return None
        return self.node.max_length * self.most


def _sum(lengths: Sequence[int | None]) -> int | None:
    known = [length for length in lengths if length is not None]
    return sum(known) if len(known) == len(lengths) else None


_ASSERTIONS = "bB"
_CLASSES = "dDwWsS"
_CONTROL = "nrtfv"
_SPECIAL = "\\.+*?()|[]{}^$"


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def parse(self) -> _Node:
        node = self._alternatives()
        if self._at < len(self._text):
            raise self._error("')' without '('")
        return node

    def _alternatives(self) -> _Node:
        nodes: list[_Node] = [self._sequence()]
        while self._accept("|"):
            nodes.append(self._sequence())
        return nodes[0] if len(nodes) == 1 else _Alternatives(nodes)

    def _sequence(self) -> _Node:
        nodes: list[_Node] = []
        while self._peek() not in ("", "|", ")"):
            nodes.append(self._repeated(self._atom()))
        return _Sequence(nodes)

    def _atom(self) -> _Node:
        character = self._next()
        if character == "(":
            if self._accept("?") and not self._accept(":"):
                raise self._error("of the groups that begin with '(?' only '(?:' is known")
            node = self._alternatives()
            if not self._accept(")"):
                raise self._error("'(' without ')'")
            return _Alternatives([node])
        if character == "[":
            return self._class()
        if character == "\\":
            return self._escape()
        if character in "^$":
            raise self._error(f"'{character}' cannot be used: a pattern is searched for anywhere in a text")
        if character in "*+?{":
            raise self._error(f"'{character}' has nothing to repeat")
        return _Character(character if character not in _SPECIAL or character == "." else f"\\{character}")

    def _repeated(self, node: _Node) -> _Node:
        if self._peek() not in ("*", "+", "?", "{"):
            return node
        sign = self._next()
        least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(sign) or self._bounds()
        if self._peek() in ("?", "+", "*", "{"):
            raise self._error("a repeat cannot be lazy, possessive or repeated; the longest match always counts")
        if isinstance(node, _Assertion):
            raise self._error("an assertion cannot be repeated")
        return _Repeat(node, least, most)

    def _bounds(self) -> tuple[int, int | None]:
        end = self._text.find("}", self._at)
        inside = self._text[self._at : end] if end >= 0 else ""
        low, comma, high = inside.partition(",")
        if not low.isdecimal() or (high and not high.isdecimal()):
            raise self._error("a repeat is {m}, {m,} or {m,n}; write '\\{' for the character")
        self._at = end + 1
        least = int(low)
        most = int(high) if high else (None if comma else least)
        if most is not None and most < least:
            raise self._error(f"a repeat of at least {least} and at most {most}")
        return least, most

    def _class(self) -> _Node:
        start = self._at - 1
        self._accept("^")
        self._accept("]")
        while (character := self._next("']' is missing")) != "]":
            if character == "\\":
                self._next("nothing follows '\\'")
            elif character == "[" and self._peek() == ":":
                end = self._text.find(":]", self._at)
                if end < 0:
                    raise self._error("':]' is missing")
                self._at = end + 2
        return _Character(self._text[start : self._at])

    def _escape(self) -> _Node:
        start = self._at - 1
        character = self._next("nothing follows '\\'")
        if character in _ASSERTIONS:
            return _Assertion(f"\\{character}")
        if character in "pPx":
            if self._accept("{"):
                end = self._text.find("}", self._at)
                if end < 0:
                    raise self._error("'}' is missing")
                self._at = end + 1
            else:
                self._at += 2 if character == "x" else 1
            return _Character(self._text[start : self._at])
        if character in _CLASSES or character in _CONTROL or not character.isalnum():
            return _Character(self._text[start : self._at])
        raise self._error(f"'\\{character}' is not known here")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self, missing: str = "the pattern ends too early") -> str:
        character = self._peek()
        if not character:
            raise self._error(missing)
        self._at += 1
        return character

    def _accept(self, character: str) -> bool:
        if self._peek() != character:
            return False
        self._at += 1
        return True

    def _error(self, message: str) -> PatternError:
        return PatternError(f"{message} (at character {self._at} of the pattern)")
