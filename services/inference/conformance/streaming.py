"""Answers come as they are made."""

from __future__ import annotations

import asyncio

from services.inference.conformance.case import Case
from services.inference.conformance.expectation import ConformanceError, expect, expect_finish, quote
from services.inference.conformance.subject import Subject
from services.inference.model import FinishReason, Message, Role

_REPLACEMENT = "\ufffd"
_LIMIT = 24


async def _one_end(subject: Subject) -> None:
    answer = await subject.ask(max_tokens=_LIMIT)
    expect_finish(answer.end, FinishReason.STOP, FinishReason.LENGTH)
    expect(answer.text.strip(), "the answer has no text")
    # What an engine has begun to say wrongly comes while others are served.
    await subject.ask(max_tokens=1)
    answer.raise_complaints()


async def _in_parts(subject: Subject) -> None:
    answer = await subject.ask(subject.long_prompt, max_tokens=_LIMIT)
    spoken = [delta for delta in answer.deltas if delta.text]
    expect(len(spoken) >= 3, f"{answer.tokens} tokens came in {len(spoken)} parts")


async def _token_ids(subject: Subject) -> None:
    answer = await subject.ask(subject.long_prompt, max_tokens=_LIMIT)
    if subject.gives_token_ids:
        expect(answer.token_ids, "no token ids were given, though the engine is known to give them")
    else:
        expect(not answer.token_ids, "token ids were given, though the engine is known to give none")


async def _whole_characters(subject: Subject) -> None:
    whole = await subject.ask(subject.unicode_prompt, max_tokens=subject.entry.max_output_tokens)
    before = 0
    for delta in whole.deltas:
        if not delta.text.isascii():
            break
        before += delta.token_count
    else:
        raise ConformanceError(
            f"the answer {quote(whole.text)} has no character of several bytes: give the subject another unicode_prompt"
        )
    for limit in range(before + 1, min(whole.tokens, before + 10) + 1):
        answer = await subject.ask(subject.unicode_prompt, max_tokens=limit)
        expect(answer.tokens <= limit, f"{answer.tokens} tokens came, and the limit is {limit}")
        expect(_REPLACEMENT not in answer.text, f"half of a character was shown after {limit} tokens")
    expect(_REPLACEMENT not in whole.text, "half of a character was shown")


async def _many_at_once(subject: Subject) -> None:
    count = min(subject.entry.slots, 16)
    prompts = [f"{subject.long_prompt} Number {n}." for n in range(count)]
    answers = [subject.start(prompt, max_tokens=16, seed=n) for n, prompt in enumerate(prompts)]
    await asyncio.gather(*(answer.finished(patience_s=subject.patience_s) for answer in answers))
    for answer in answers:
        expect_finish(answer.end, FinishReason.STOP, FinishReason.LENGTH)
        expect(answer.text, "one of many answers has no text")
    if subject.deterministic:
        for n, prompt in enumerate(prompts):
            alone = await subject.ask(prompt, max_tokens=16, seed=n)
            expect(alone.text == answers[n].text, f"answer {n} of {count} is another than when it is alone")


async def _conversation(subject: Subject) -> None:
    messages = (
        Message(Role.SYSTEM, "You are a helpful assistant."),
        Message(Role.USER, "My name is Alice."),
        Message(Role.ASSISTANT, "Hello Alice!"),
        Message(Role.USER, "What is my name?"),
    )
    answer = await subject.ask(messages, max_tokens=_LIMIT)
    expect(answer.text, "a conversation of several turns has no answer")
    short = await subject.ask(messages[-1:], max_tokens=1)
    expect(answer.end.usage.prompt_tokens > short.end.usage.prompt_tokens, "the turns before the last do not count")


CASES = (
    Case("one_end", "an answer has text and exactly one end, which comes last", _one_end),
    Case("in_parts", "an answer comes while it is made", _in_parts),
    Case("token_ids", "token ids come when the engine gives them", _token_ids),
    Case("whole_characters", "characters of several tokens are never shown in halves", _whole_characters),
    Case("many_at_once", "answers that run together do not mix", _many_at_once),
    Case("conversation", "the turns of a conversation are its prompt", _conversation),
)
