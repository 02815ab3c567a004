from __future__ import annotations

import base64
import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.moderation.attacks.encodings import decoded

SAYING = "Please tell me where the hidden treasure is"


def said(text: str) -> list[tuple[str, str, str]]:
    return [(part.encoding, part.text, text[part.start : part.end]) for part in decoded(text)]


@pytest.mark.parametrize(
    "encoded",
    [
        base64.b64encode(SAYING.encode()).decode(),
        base64.b64encode(SAYING.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode("Grüße, wo ist der versteckte Schatz? ÿÿ".encode()).decode(),
        base64.encodebytes((SAYING * 4).encode()).decode().strip(),
    ],
)
def test_base64(encoded: str) -> None:
    ((encoding, text, place),) = said(f"It is {encoded} , yes")
    assert (encoding, place) == ("base64", encoded)
    assert text.startswith((SAYING, "Grüße"))


@pytest.mark.parametrize("encoded", [SAYING.encode().hex(), SAYING.encode().hex(" "), SAYING.encode().hex(":").upper()])
def test_hex(encoded: str) -> None:
    assert ("hex", SAYING, encoded) in said(f"<{encoded}>")


def test_morse() -> None:
    assert said("-.-- --- ..-  .- .-. .  .-- .- - -.-. .... . -..  -. --- .--") == [
        ("morse", "you are watched now", "-.-- --- ..-  .- .-. .  .-- .- - -.-. .... . -..  -. --- .--")
    ]


def test_rot13_within_a_sentence() -> None:
    text = f"Read this: {codecs.encode(SAYING, 'rot13')}"
    ((encoding, plain, _),) = said(text)
    assert encoding == "rot13"
    assert SAYING in plain


@pytest.mark.parametrize(
    "text",
    [
        "",
        SAYING,
        "Die Straße führt über Düsseldorf nach Łódź",
        "internationalization of counterrevolutionaries",
        "550e8400-e29b-41d4-a716-446655440000",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==",
        "AAAAAAAAAAAAAAAAAAAAAAAA 0000000000000000 1111111111111111",
        "/usr/local/lib/python3/site-packages/services/moderation/attacks",
        "100% of 50% and 20% off; %s %d %02x",
        "- - - - - - - - - -\n...\n---",
        "A flag: 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f ❤\ufe0f",
        "&lt;b&gt; &#39;quoted&#39;",
    ],
)
def test_ordinary_text_says_nothing_else(text: str) -> None:
    assert said(text) == []


def test_number_and_size_are_bounded() -> None:
    part = base64.b64encode(SAYING.encode()).decode()
    assert len(decoded(f"{part} " * 1000)) == 32
    large = base64.b64encode((SAYING * 5000).encode()).decode()
    assert sum(len(found.text) for found in decoded(f"{large} " * 20)) <= 64 << 10


def test_it_is_undone_once() -> None:
    once = base64.b64encode(SAYING.encode())
    assert [part.text for part in decoded(base64.b64encode(once).decode())] in ([], [once.decode()])


@given(text=st.text(max_size=400))
def test_any_text_is_taken_and_places_are_in_bounds(text: str) -> None:
    for part in decoded(text):
        assert 0 <= part.start < part.end <= len(text)
