"""What is said of tokens never says more than the text that is shown."""

from __future__ import annotations

from itertools import accumulate, groupby, pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.conversation.chat_model import TokenLogprob
from services.conversation.token_logprobs import TokenLogprobs


def token(data: bytes, logprob: float = -0.5) -> TokenLogprob:
    return TokenLogprob(data.decode(errors="ignore"), data, logprob)


def written(*pairs: tuple[str, str]) -> TokenLogprobs:
    """Tokens, with the text that came with each."""
    logprobs = TokenLogprobs()
    for data, text in pairs:
        logprobs.add([token(data.encode())])
        logprobs.write(text)
    return logprobs


def given_out(logprobs: TokenLogprobs) -> list[bytes]:
    return [logprob.data for logprob in logprobs.take()]


def test_tokens_come_with_the_text_that_is_clear_and_only_once() -> None:
    logprobs = written(("Hello", "Hello"), (" world", " world"))
    assert given_out(logprobs) == []
    logprobs.clear(5)
    assert given_out(logprobs) == [b"Hello"]
    # Half of a token is not shown.
    logprobs.clear(8)
    assert given_out(logprobs) == []
    logprobs.clear(11)
    assert given_out(logprobs) == [b" world"]
    assert given_out(logprobs) == []


def test_parts_of_a_character_come_when_it_is_shown() -> None:
    snowman = "☃".encode()
    logprobs = TokenLogprobs()
    logprobs.add([token(snowman[:1])])
    logprobs.write("")
    logprobs.add([token(snowman[1:])])
    logprobs.write("☃")
    logprobs.clear(1)
    assert given_out(logprobs) == [snowman[:1], snowman[1:]]


def test_a_token_that_is_held_for_a_stop_string_waits_for_its_text() -> None:
    logprobs = written(("abc", "abc"), (" ST", ""))
    logprobs.clear(3)
    assert given_out(logprobs) == [b"abc"]
    logprobs.add([token(b"AR")])
    logprobs.write(" STAR")
    logprobs.clear(8)
    assert given_out(logprobs) == [b" ST", b"AR"]


def test_a_stop_string_and_the_end_of_the_answer_are_never_given_out() -> None:
    logprobs = written(("abc", "abc"), (" STOP", ""), ("<end>", ""))
    logprobs.clear(3)
    assert given_out(logprobs) == [b"abc"]
    logprobs.clear(1_000)
    assert given_out(logprobs) == []


def test_what_is_replaced_before_or_after_it_was_cleared_is_left_out() -> None:
    logprobs = written(("my", "my"), (" key", " key"), (" is", " is"), (" SEC", " SEC"), ("RET", "RET"), (".", "."))
    logprobs.replace(10, 16)
    logprobs.clear(17)
    assert given_out(logprobs) == [b"my", b" key", b" is", b"."]
    logprobs = written(("abc", "abc"), ("def", "def"))
    logprobs.clear(6)
    logprobs.replace(1, 2)
    assert given_out(logprobs) == [b"def"]


def test_a_space_in_front_of_the_first_word_may_be_the_vocabularys_own() -> None:
    logprobs = written((" Hello", "Hello"), (" you", " you"))
    logprobs.clear(9)
    assert given_out(logprobs) == [b" Hello", b" you"]


def test_tokens_that_another_engine_generates_again_are_forgotten() -> None:
    logprobs = written(("abc", "abc"), ("de", ""))
    logprobs.restart()
    logprobs.add([token(b"dex")])
    logprobs.write("dex")
    logprobs.clear(6)
    assert given_out(logprobs) == [b"abc", b"dex"]


def test_one_that_is_no_part_of_the_text_does_not_lose_those_after_it() -> None:
    logprobs = written(("abc", "abc"), ("<think>", ""), ("\ufffd", "\N{BLACK HEART SUIT}"), ("de", "de"))
    logprobs.clear(6)
    assert given_out(logprobs) == [b"abc", b"de"]


TEXTS = st.text(st.sampled_from("ab é☃😀\n"), min_size=1, max_size=30)
CUTS = st.lists(st.integers(0, 100), max_size=20)
RANGES = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=3)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(position % (len(data) + 1) for position in at)})
    return [data[start:end] for start, end in pairwise(bounds)]


def visible(text: str, clear: int, replaced: list[tuple[int, int]]) -> list[bytes]:
    """The stretches of the text that are shown as they were written."""
    shown = [None if any(a <= position < b for a, b in replaced) else c for position, c in enumerate(text[:clear])]
    runs = groupby(shown, key=lambda character: character is None)
    return ["".join(c for c in run if c is not None).encode() for is_gone, run in runs if not is_gone]


def assert_nothing_more_than(stretches: list[bytes], tokens: list[bytes]) -> None:
    """The tokens are found one after another in the stretches."""
    left = list(stretches)
    for data in tokens:
        while left and data not in left[0]:
            left.pop(0)
        assert left, f"{data!r} is not part of what is shown"
        left[0] = left[0].split(data, 1)[1]


@given(TEXTS, st.lists(st.binary(max_size=4) | TEXTS.map(str.encode), max_size=12), CUTS, CUTS, RANGES)
def test_whatever_an_engine_says_of_tokens_it_is_never_more_than_the_text_says(
    text: str, tokens: list[bytes], cuts: list[int], marks: list[int], ranges: list[tuple[int, int]]
) -> None:
    logprobs = TokenLogprobs()
    told = clear = 0
    replaced: list[tuple[int, int]] = []
    taken: list[bytes] = []
    for number, until in enumerate([*sorted(at % (len(text) + 1) for at in cuts), len(text)]):
        logprobs.add(token(data) for data in tokens[number::5])
        logprobs.write(text[told:until])
        told = until
        for start, length in ranges:
            # As moderation does: it replaces what was written, before that is shown.
            if clear <= start and start + length <= told and (start, start + length) not in replaced:
                replaced.append((start, start + length))
                logprobs.replace(start, start + length)
        clear = max(clear, min(told, marks[number % len(marks)] if marks else told))
        logprobs.clear(clear)
        taken += given_out(logprobs)
        assert_nothing_more_than(visible(text, clear, replaced), taken)


@given(TEXTS, CUTS, CUTS, CUTS, RANGES)
def test_however_tokens_and_text_are_cut_all_that_is_shown_whole_is_given_out(
    text: str, token_cuts: list[int], delta_cuts: list[int], holds: list[int], ranges: list[tuple[int, int]]
) -> None:
    tokens = cut(text.encode(), token_cuts)
    ends = list(accumulate(len(data) for data in tokens))
    starts = [len(text[:position].encode()) for position in range(len(text) + 1)]
    logprobs = TokenLogprobs()
    told = first = 0
    for number, last in enumerate([*sorted(at % (len(tokens) + 1) for at in delta_cuts), len(tokens)]):
        logprobs.add(token(data) for data in tokens[first:last])
        # The characters that are whole by then; now and then they are held back, as the start of a stop string is.
        whole = sum(start <= ends[last - 1] for start in starts) - 1 if last else 0
        if last == len(tokens) or number not in holds:
            logprobs.write(text[told:whole])
            told = whole
        first = last
    replaced = [(starts[min(a, len(text))], starts[min(a + n, len(text))]) for a, n in ranges]
    for start, length in ranges:
        logprobs.replace(min(start, len(text)), min(start + length, len(text)))
    logprobs.clear(len(text))
    whole_tokens = [
        data
        for data, end in zip(tokens, ends, strict=True)
        if not any(a < end and end - len(data) < b for a, b in replaced if a < b)
    ]
    assert given_out(logprobs) == whole_tokens
