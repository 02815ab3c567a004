"""What Conversation makes of Moderation's word: notes, holds, who sees what, and what passes when nobody answers.

Without Moderation the policy counts: each test of an open one shows beside it that a closed one lets nothing pass.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import grpc
import pytest

from chatmesh.conversation.v1 import conversation_pb2
from chatmesh.moderation.v1 import moderation_service_pb2, verdict_pb2
from chatmesh.type.v1 import chat_pb2, moderation_pb2
from services.runtime.errors import Reason
from tests.rpc.conversation.conftest import StartStage
from tests.rpc.conversation.peers import assembled
from tests.rpc.conversation.scripted import Held, eventually
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import block, clear, words
from tests.rpc.conversation.user import User

pytestmark = pytest.mark.asyncio(loop_scope="session")

OPEN, CLOSED = moderation_pb2.MODERATION_MODE_OPEN, moderation_pb2.MODERATION_MODE_CLOSED
CHECKED = moderation_pb2.MODERATION_MODE_CHECKED


def verdict(
    action: verdict_pb2.Action = verdict_pb2.ACTION_ALLOW,
    *,
    note: str = "",
    event_id: str = "",
    input_closed: tuple[str, ...] = ("illicit",),
    output_closed: tuple[str, ...] = ("illicit",),
) -> moderation_service_pb2.CheckInputResponse:
    findings = [verdict_pb2.Finding(category="violence", rule="r", action=action)] if action != 1 else []
    return moderation_service_pb2.CheckInputResponse(
        verdict=verdict_pb2.Verdict(
            action=action, findings=findings, policy_version="p7", note=note, event_id=event_id
        ),
        availability=moderation_service_pb2.Availability(
            patience_ms=300, input_closed=input_closed, output_closed=output_closed, policy_version="p7"
        ),
    )


async def begun(stage: Stage, user: User, reply: Any) -> tuple[Any, Any]:
    stage.prepare("Hello", check_input=reply)
    reader = user.stream("Hello")
    start = await stage.engine.next_start()
    await reader.started()
    return reader, start


async def test_what_is_warned_of_goes_to_the_model_before_the_message(stage: Stage) -> None:
    reader, start = await begun(
        stage, await stage.user(), verdict(verdict_pb2.ACTION_WARN, note="Be careful.", event_id="e1")
    )
    *_, note, last = start.messages
    assert (note.role, note.content) == (chat_pb2.ROLE_SYSTEM, "Be careful.")
    assert (last.role, last.content) == (chat_pb2.ROLE_USER, "Hello")
    stage.engine.finish(start.generation_id, "Hi.")
    receipt = (await reader.completed()).route.moderation
    assert receipt.policy_version == "p1"
    assert (receipt.input.mode, receipt.input.action, receipt.input.event_id) == (CHECKED, "warn", "e1")
    assert list(receipt.input.categories) == ["violence"]
    assert receipt.output.mode == CHECKED


async def test_a_message_that_is_held_is_stored_as_held(stage: Stage) -> None:
    user = await stage.user()
    stage.prepare("Hello", check_input=verdict(verdict_pb2.ACTION_HOLD, event_id="e2"))
    refusal = await user.stream("Hello").refusal()
    assert refusal.reason is Reason.CONTENT_HELD
    assert refusal.metadata == {"category": "violence", "policy_version": "p7", "event_id": "e2"}
    messages = await user.messages()
    assert messages[0].content == "Hello"
    assert messages[0].status == conversation_pb2.MESSAGE_STATUS_HELD


async def test_an_answer_that_is_held_ends(stage: Stage) -> None:
    stage.moderation.clears = False
    reader, start = await begun(stage, await stage.user(), verdict())
    id_ = start.generation_id
    stage.engine.say(words(id_, "one two "))
    await stage.moderation.has(id_, "one two ")
    held = block(0, 8)
    held.action = verdict_pb2.ACTION_HOLD
    result = clear(id_, 8, held, done=True)
    result.event_id = "e3"
    stage.moderation.say(result)
    failed = await reader.failed()
    assert failed.error.reason == Reason.CONTENT_HELD
    assert failed.error.metadata["event_id"] == "e3"
    assert failed.message.status == conversation_pb2.MESSAGE_STATUS_HELD
    assert failed.message.route.moderation.output.event_id == "e3"


async def test_moderation_sees_the_users_last_turns_and_whose_answer_it_is(stage: Stage) -> None:
    user = await stage.user()
    for number in range(8):
        reader, start = await stage.turn(user, f"Q{number}")
        stage.engine.finish(start.generation_id, f"A{number}")
        await reader.completed()
    reader, start = await stage.turn(user, "Q8")
    request = stage.moderation.check_input.requests[-1]
    assert [part.text for part in request.context] == [f"Q{number}" for number in range(2, 8)]
    assert {part.origin for part in request.context} == {moderation_service_pb2.INPUT_ORIGIN_EARLIER_TURN}
    assert request.conversation_id == user.conversation_id
    stage.engine.say(words(start.generation_id, "one "))
    await reader.shows("one ")
    # When the stream is lost, the next one is told again.
    for _ in range(2):
        (segment, *_) = [
            segment
            for message in stage.moderation.lives[-1].messages
            for segment in message.segments
            if segment.generation_id == start.generation_id
        ]
        assert (segment.context.user_id, segment.context.tier) == (user.id, "pro")
        assert segment.context.conversation_id == user.conversation_id
        ended = stage.moderation.lives[-1]
        stage.moderation.break_off(grpc.StatusCode.UNAVAILABLE)
        await eventually(partial(another_life, stage, ended), "a new stream")
        await stage.moderation.has(start.generation_id, "one ")
    stage.engine.finish(start.generation_id, "two")
    await reader.completed()


def another_life(stage: Stage, than: object) -> bool:
    return stage.moderation.lives[-1] is not than


@pytest.mark.parametrize("known", ["open", "closed", "nothing"])
async def test_an_input_that_nobody_checks(stage: Stage, known: str) -> None:
    # Of each kind of user something else is known, so that the tests do not hear of each other.
    user = await User(stage.channel, tier=f"input-{known}").begin()
    if known != "nothing":
        closed = () if known == "open" else ("illicit",)
        reader, start = await begun(stage, user, verdict(input_closed=closed))
        stage.engine.finish(start.generation_id, "Hi.")
        await reader.completed()
    stage.prepare("Hello", check_input=Held())
    reader = user.stream("Hello")
    if known == "open":
        start = await stage.engine.next_start()
        stage.engine.finish(start.generation_id, "Hi.")
        receipt = (await reader.completed()).route.moderation
        assert (receipt.input.mode, receipt.input.action) == (OPEN, "")
        assert receipt.output.mode == CHECKED
    else:
        assert (await reader.refusal()).reason in (Reason.DEPENDENCY_UNAVAILABLE, Reason.DEADLINE_EXCEEDED)


async def test_nobody_passes_unchecked_for_being_in_a_hurry(stage: Stage) -> None:
    """The policy's patience counts, and not the deadline that a client chooses."""
    user = await User(stage.channel, tier="input-hurry").begin()
    reader, start = await begun(stage, user, verdict(input_closed=()))
    stage.engine.finish(start.generation_id, "Hi.")
    await reader.completed()
    stage.prepare("Hello", check_input=Held())
    # Nothing was begun, no engine was asked.
    assert (await user.stream("Hello", timeout=0.4).refusal()).reason is Reason.DEADLINE_EXCEEDED


async def test_an_answer_that_nobody_checks_is_shown_where_the_policy_says_so(stage: Stage) -> None:
    stage.moderation.clears = False
    shown, start = await begun(stage, await stage.user(), verdict(output_closed=()))
    hidden, other = await begun(stage, await stage.user(), verdict())
    stage.engine.say(words(other.generation_id, "one two "))
    stage.engine.say(words(start.generation_id, "one two "))
    await shown.shows("one two ")
    # Under a closed policy the same silence, which began earlier, has shown nothing.
    assert hidden.text == ""
    stage.engine.say(words(start.generation_id, "three "))
    await shown.shows("one two three ")
    stage.engine.finish(start.generation_id, "four")
    receipt = (await shown.completed()).route.moderation
    assert (receipt.output.mode, receipt.input.mode) == (OPEN, CHECKED)
    assert hidden.text == ""
    stage.engine.finish(other.generation_id, "three")
    await stage.moderation.has(other.generation_id, "one two three", complete=True)
    stage.moderation.say(clear(other.generation_id, 13, done=True))
    assert (await hidden.completed()).route.moderation.output.mode == CHECKED


async def test_a_verdict_that_comes_after_all_takes_back_what_was_shown(stage: Stage) -> None:
    stage.moderation.clears = False
    reader, start = await begun(stage, await stage.user(), verdict(output_closed=()))
    id_ = start.generation_id
    stage.engine.say(words(id_, "one two three "))
    await reader.shows("one two three ")
    stage.moderation.say(clear(id_, 14, block(4, 14), done=True))
    failed = await reader.failed()
    assert failed.error.reason == Reason.CONTENT_BLOCKED
    assert failed.message.content == reader.text == "one "
    assert failed.message.route.moderation.output.mode == OPEN


async def test_a_check_that_waits_for_more_is_not_taken_for_one_that_is_gone(stage: Stage) -> None:
    """A match that is still growing keeps text back for good reason, however long the engine pauses."""
    stage.moderation.clears = False
    waiting, start = await begun(stage, await stage.user(), verdict(output_closed=()))
    id_ = start.generation_id
    stage.engine.say(words(id_, "key: abc"))
    await stage.moderation.has(id_, "key: abc")
    result = clear(id_, 5)
    result.seen = 8
    stage.moderation.say(result)
    await waiting.shows("key: ")
    silent, other = await begun(stage, await stage.user(), verdict(output_closed=()))
    stage.engine.say(words(other.generation_id, "one two "))
    await silent.shows("one two ")
    # The one that was silent for less long was opened; this one was not.
    assert waiting.text == "key: "
    stage.engine.finish(id_, " done")
    await stage.moderation.has(id_, "key: abc done", complete=True)
    stage.moderation.say(clear(id_, 13, done=True))
    assert (await waiting.completed()).route.moderation.output.mode == CHECKED
    stage.engine.finish(other.generation_id, "three")
    await silent.completed()


@pytest.mark.parametrize("is_open", [True, False])
async def test_moderation_dies_in_the_middle_and_stays_away(stage: Stage, is_open: bool) -> None:
    stage.moderation.clears = False
    reader, start = await begun(stage, await stage.user(), verdict(output_closed=() if is_open else ("illicit",)))
    id_ = start.generation_id
    stage.engine.say(words(id_, "one two "))
    await stage.moderation.has(id_, "one two ")
    stage.moderation.say(clear(id_, 4))
    await reader.shows("one ")
    await stage.moderation.stop()
    try:
        if is_open:
            stage.engine.finish(id_, "three")
            receipt = (await reader.completed()).route.moderation
            assert reader.text == "one two three"
            assert receipt.output.mode == OPEN
        else:
            stage.engine.say(words(id_, "three"))
            failed = await reader.failed()
            assert (failed.message.content, failed.error.reason) == ("one ", Reason.DEPENDENCY_UNAVAILABLE)
            assert failed.message.route.moderation.output.mode == CLOSED
    finally:
        await stage.moderation.start()
    await stage.serving_again()


async def test_an_answer_that_a_silent_checker_has_not_cleared_fails(start_stage: StartStage) -> None:
    async with start_stage(stall_timeout_s=0.4) as stage:
        stage.moderation.clears = False
        reader, start = await begun(stage, await stage.user(), verdict())
        stage.engine.finish(start.generation_id, "one two")
        failed = await reader.failed()
    assert (failed.message.content, failed.error.reason) == ("", Reason.DEPENDENCY_UNAVAILABLE)
    assert failed.message.route.moderation.output.mode == CLOSED


async def test_what_is_redacted_of_earlier_messages_goes_so_to_the_model(stage: Stage) -> None:
    """A client that sends its whole chat sends with each turn what was redacted before."""
    user = await stage.user()
    response = verdict()
    # The texts are the user's first message and the new one, the context what the client says was answered.
    response.verdict.redacted_others.add(index=0, text="My card is [gone].")
    stage.prepare("unused", check_input=response, assemble=assembled("My card is 4111.", "Noted.", "And now?"))
    reader = user.temporary(
        chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, content="My card is 4111."),
        chat_pb2.ChatMessage(role=chat_pb2.ROLE_ASSISTANT, content="Noted."),
        chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, content="And now?"),
    )
    start = await stage.engine.next_start()
    request = stage.moderation.check_input.requests[-1]
    assert list(request.texts) == ["My card is 4111.", "And now?"]
    said = [message.content for message in start.messages]
    assert said == ["Be brief.", "My card is [gone].", "Noted.", "And now?"]
    stage.engine.finish(start.generation_id, "Hi.")
    await reader.end()
