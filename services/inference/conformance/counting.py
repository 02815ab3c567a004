"""Tokens are counted, by one tokenizer, and an engine says how it is."""

from __future__ import annotations

from services.inference.conformance.case import Case
from services.inference.conformance.expectation import expect
from services.inference.conformance.subject import Subject
from services.inference.model import Message, Role

_TEXTS = ("", "Hello", "naïve 日本語 😀\n\n", "a longer text, of some words, that has more tokens than the others have")


async def _counts(subject: Subject) -> None:
    counts = (await subject.engine.count_tokens(_TEXTS)).counts
    expect(len(counts) == len(_TEXTS), f"{len(counts)} counts came for {len(_TEXTS)} texts")
    expect(counts[0] == 0, f"no text has {counts[0]} tokens")
    expect(0 < counts[1] < counts[3], f"a word has {counts[1]} tokens and a sentence {counts[3]}")
    again = (await subject.engine.count_tokens(tuple(reversed(_TEXTS)))).counts
    expect(tuple(reversed(again)) == tuple(counts), "a text has another count in another place")
    expect(not (await subject.engine.count_tokens(())).counts, "there are counts of no texts")


async def _bound(subject: Subject) -> None:
    shapes = ("u", "su", "uau", "suau", "suauau")
    roles = {"s": Role.SYSTEM, "u": Role.USER, "a": Role.ASSISTANT}
    for shape in shapes:
        texts = [f"Text number {n}: naïve 日本語" for n in range(len(shape))]
        messages = tuple(Message(roles[letter], text) for letter, text in zip(shape, texts, strict=True))
        answer = await subject.ask(messages, max_tokens=1)
        counts = await subject.engine.count_tokens(texts)
        bound = sum(counts.counts) + counts.tokens_per_message * len(texts) + counts.tokens_per_prompt
        prompt = answer.end.usage.prompt_tokens
        least = sum(counts.counts) if subject.counts_tokens else 1
        expect(
            least <= prompt <= bound,
            f"a prompt has {prompt} tokens; its texts {sum(counts.counts)}, and with the template at most {bound}",
        )


async def _answer(subject: Subject) -> None:
    answer = await subject.ask(subject.long_prompt, max_tokens=24)
    (count,) = (await subject.engine.count_tokens((answer.text,))).counts
    # A text may be cut into fewer tokens than it was written in.
    expect(
        count <= answer.tokens + 2 and answer.tokens <= 2 * count + 2,
        f"an answer of {answer.tokens} tokens counts {count}",
    )


async def _cached(subject: Subject) -> None:
    prompt = f"{'Here are many words for the cache. ' * 6}{subject.long_prompt}"
    first = await subject.ask(prompt, max_tokens=4)
    again = await subject.ask(prompt, max_tokens=4)
    cached = again.end.usage.cached_tokens
    expect(again.end.usage.prompt_tokens == first.end.usage.prompt_tokens, "a cached prompt has another count")
    if subject.tells_cached_tokens:
        expect(cached > 0, "a prompt that came before has no cached tokens")
    elif subject.tells_cached_tokens is False:
        expect(cached == 0, "cached tokens were told, though the engine is known not to tell them")


async def _stats(subject: Subject) -> None:
    await subject.engine.check()
    stats = subject.engine.stats()
    expect(0 <= stats.kv_cache_usage <= 1, f"the KV cache is used to {stats.kv_cache_usage}")
    expect(0 <= stats.kv_cache_hit_rate <= 1, f"the KV cache has a hit rate of {stats.kv_cache_hit_rate}")


def _unless_estimated(subject: Subject) -> str:
    return "" if subject.counts_tokens else "tokens are estimated for this entry, not counted"


CASES = (
    Case("token_counts", "texts have the same number of tokens wherever they stand", _counts, frozenset()),
    Case("prompt_bound", "the counts of its texts bound what a prompt takes", _bound),
    Case("answer_count", "an answer has about as many tokens as its text", _answer, unless=_unless_estimated),
    Case("cached_tokens", "what of a prompt was cached is told", _cached),
    Case("stats", "an engine that works says so, and how full its cache is", _stats, frozenset()),
)
