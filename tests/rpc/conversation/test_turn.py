"""A turn from the question to the stored answer, as the services around it see it."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from chatmesh.conversation.v1 import conversation_pb2
from chatmesh.moderation.v1 import verdict_pb2
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import DomainError, Reason, from_rpc_error
from tests.rpc.conversation.peers import CONTEXT_LENGTH, MODEL, PROMPT_TOKENS, assembled, granted
from tests.rpc.conversation.scripted import Held, eventually
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import allowed, block, clear, redact, words

pytestmark = pytest.mark.asyncio(loop_scope="session")

STATUS = conversation_pb2.MessageStatus


async def test_the_order_of_the_calls(stage: Stage) -> None:
    user = await stage.user(system_prompt="Be brief.")
    reader, start = await stage.turn(user, "What is a mesh?", sampling=chat_pb2.SamplingOptions(temperature=0.5))
    stage.engine.say(words(start.generation_id, "A mesh "))
    await reader.shows("A mesh ")
    stage.engine.finish(start.generation_id, "is many.")
    answer = await reader.completed()

    assert reader.text == "A mesh is many."
    assert answer.status == STATUS.MESSAGE_STATUS_COMPLETED
    assert answer.finish_reason == chat_pb2.FINISH_REASON_STOP
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (PROMPT_TOKENS, 4)
    assert (answer.model, answer.route.replica_id, answer.route.requested_model) == (MODEL, "replica-a", "auto")
    assert [message.content for message in await user.messages()] == ["What is a mesh?", "A mesh is many."]

    record = await stage.usage.settled(start.generation_id)
    assert (record.user_id, record.tier, record.conversation_id) == (user.id, "pro", user.conversation_id)
    assert record.usage == answer.usage
    # The preparation in any order, then one after another; and no cancel for what ended by itself.
    assert set(stage.journal[:4]) == {method.name for method in stage.methods}
    # The end of an answer is forgotten by the checker when it is told so.
    await eventually(lambda: "moderation.abandon" in stage.journal, "the checker may forget the answer")
    assert stage.journal[4:] == ["inference.start", "moderation.segment", "moderation.last", "moderation.abandon"]

    assert start.model == MODEL
    assert [message.content for message in start.messages] == ["Be brief.", "What is a mesh?"]
    assert start.sampling.temperature == 0.5
    assert start.sampling.max_tokens == 200
    assert stage.context.assemble.requests[0].system_prompt == "Be brief."
    assert stage.context.targets[0].tokenizer_address == stage.engine.address
    assert stage.context.targets[0].context_length == CONTEXT_LENGTH
    assert stage.router.route.requests[0].conversation_id == user.conversation_id


async def test_the_four_preparations_run_side_by_side(stage: Stage) -> None:
    user = await stage.user()
    held = [Held() for _ in stage.methods]
    for method, call in zip(stage.methods, held, strict=True):
        method.queue(call)
    reader = user.stream()
    # None of them is answered before all of them were asked.
    async with asyncio.timeout(10):
        await asyncio.gather(*(call.called.wait() for call in held))
    assert reader.kinds == []
    for call, reply in zip(held, (granted(), allowed(), stage.to(stage.engine), assembled("Hello")), strict=True):
        call.reply(reply)
    start = await stage.engine.next_start()
    stage.engine.finish(start.generation_id, "Hi.")
    await reader.completed()


async def test_the_last_tokens_of_a_quota_bound_the_answer(stage: Stage) -> None:
    user = await stage.user()
    stage.prepare("Hi" * 30, acquire=granted(50))
    reader = user.stream("Hi" * 30)
    start = await stage.engine.next_start()
    # 20 of the 50 are the estimate of the question.
    assert start.sampling.max_tokens == 30
    stage.engine.finish(start.generation_id, "Hi.", chat_pb2.FINISH_REASON_LENGTH)
    assert (await reader.completed()).finish_reason == chat_pb2.FINISH_REASON_LENGTH


async def test_history_is_given_newest_first_until_nothing_is_left(stage: Stage) -> None:
    user = await stage.user()
    for n in range(12):
        reader, start = await stage.turn(user, f"Q{n}")
        stage.engine.finish(start.generation_id, f"A{n}")
        await reader.completed()

    stage.prepare("Q12", assemble=(3, 3, assembled("Q12")))
    reader = user.stream("Q12")
    start = await stage.engine.next_start()
    pages = [stage.context.assemble.requests[-1].first_page, *stage.context.pages]
    texts = [[message.message.content for message in page.messages] for page in pages]
    assert [len(page) for page in texts] == [20, 3, 1]
    assert [text for page in texts for text in page] == [
        text for n in reversed(range(12)) for text in (f"A{n}", f"Q{n}")
    ]
    assert [page.exhausted for page in pages] == [False, False, True]
    stage.engine.finish(start.generation_id, "A12")
    await reader.completed()


async def test_answers_share_messages(stage: Stage) -> None:
    one, two, three = [await stage.user() for _ in range(3)]
    turns = [await stage.turn(one)]
    lives = len(stage.engine.lives)
    turns += [await stage.turn(two), await stage.turn(three)]
    ids = [start.generation_id for _, start in turns]
    assert len(stage.engine.lives) == lives

    before = len(stage.moderation.lives[-1].messages) if stage.moderation.lives else 0
    stage.engine.say(*(words(generation_id, f"for {n} ") for n, generation_id in enumerate(ids)))
    for n, (reader, _) in enumerate(turns):
        await reader.shows(f"for {n} ")
    came = stage.moderation.lives[-1].messages[before:]
    assert [[segment.generation_id for segment in message.segments] for message in came] == [ids]

    # One ends in the message in which the others go on.
    stage.engine.say(stage.engine.last(ids[0], "end"), words(ids[1], "more "), words(ids[2], "more "))
    await turns[0][0].completed()
    await turns[1][0].shows("for 1 more ")
    stage.engine.finish(ids[1])
    stage.engine.finish(ids[2])
    for (reader, _), text in zip(turns, ("for 0 end", "for 1 more ", "for 2 more "), strict=True):
        assert (await reader.completed()).content == text


async def test_a_redacted_question_is_what_is_stored_and_what_the_model_sees(stage: Stage) -> None:
    user = await stage.user()
    redacted = allowed()
    redacted.verdict.action = verdict_pb2.ACTION_REDACT
    redacted.verdict.redacted_text = "My card is [card]"
    stage.prepare("My card is 4111", check_input=redacted)
    reader = user.stream("My card is 4111")
    start = await stage.engine.next_start()
    assert start.messages[-1].content == "My card is [card]"
    stage.engine.finish(start.generation_id, "Noted.")
    await reader.completed()
    assert [message.content for message in await user.messages()] == ["My card is [card]", "Noted."]


async def test_text_is_shown_as_far_as_it_is_clear(stage: Stage) -> None:
    stage.moderation.clears = False
    user = await stage.user()
    reader, start = await stage.turn(user)
    id_ = start.generation_id
    stage.engine.say(words(id_, "The key is 1234 ok"))
    await stage.moderation.has(id_, "The key is 1234 ok")
    stage.moderation.say(clear(id_, 8))
    await reader.shows("The key ")
    # Of what was not shown yet only the replacement is ever sent.
    stage.moderation.say(clear(id_, 18, redact(11, 15)))
    await reader.shows("The key is [x] ok")
    assert "retracted" not in reader.kinds
    stage.engine.finish(id_)
    await stage.moderation.has(id_, "The key is 1234 ok", complete=True)
    stage.moderation.say(clear(id_, 18, done=True))
    assert (await reader.completed()).content == "The key is [x] ok"


async def test_text_that_was_shown_is_taken_back(stage: Stage) -> None:
    stage.moderation.clears = False
    user = await stage.user()
    reader, start = await stage.turn(user)
    id_ = start.generation_id
    stage.engine.say(words(id_, "I am Anna B and you"))
    await stage.moderation.has(id_, "I am Anna B and you")
    stage.moderation.say(clear(id_, 9))
    await reader.shows("I am Anna")
    stage.moderation.say(clear(id_, 15, redact(5, 11, "[name]")))
    await reader.shows("I am [name] and")
    assert reader.kinds.count("retracted") == 1
    stage.engine.finish(id_)
    await stage.moderation.has(id_, "I am Anna B and you", complete=True)
    stage.moderation.say(clear(id_, 19, done=True))
    assert (await reader.completed()).content == "I am [name] and you"


async def test_an_answer_that_is_blocked_in_its_middle(stage: Stage) -> None:
    stage.moderation.clears = False
    user = await stage.user()
    reader, start = await stage.turn(user)
    id_ = start.generation_id
    stage.engine.say(words(id_, "Take the thing and so on"))
    await stage.moderation.has(id_, "Take the thing and so on")
    stage.moderation.say(clear(id_, 14))
    await reader.shows("Take the thing")
    stage.moderation.say(clear(id_, 14, block(5, 24)))
    failed = await reader.failed()

    assert failed.error.reason == Reason.CONTENT_BLOCKED
    assert failed.error.metadata == {"category": "violence", "policy_version": "p1"}
    assert reader.text == "Take "
    assert failed.message.content == "Take "
    assert failed.message.status == STATUS.MESSAGE_STATUS_BLOCKED
    assert failed.message.finish_reason == chat_pb2.FINISH_REASON_CONTENT_FILTER
    await stage.engine.was_cancelled(id_)
    # The engine had not said what it used; it is counted all the same.
    record = await stage.usage.settled(id_)
    assert (record.usage.prompt_tokens, record.usage.completion_tokens) == (PROMPT_TOKENS, 6)
    assert (await user.messages())[-1].status == STATUS.MESSAGE_STATUS_BLOCKED


async def test_a_blocked_answer_is_an_error_for_who_waits_for_the_whole(stage: Stage) -> None:
    stage.moderation.clears = False
    user = await stage.user()
    stage.prepare()
    waiting = asyncio.create_task(user.send())
    start = await stage.engine.next_start()
    stage.engine.finish(start.generation_id, "Bad")
    await stage.moderation.has(start.generation_id, "Bad", complete=True)
    stage.moderation.say(clear(start.generation_id, 0, block(0, 3)))
    with pytest.raises(DomainError) as refused:
        await waiting
    assert refused.value.reason is Reason.CONTENT_BLOCKED
    assert (await user.messages())[-1].content == ""


async def test_nul_characters_never_reach_the_database(stage: Stage) -> None:
    user = await stage.user()
    reader, start = await stage.turn(user)
    stage.engine.finish(start.generation_id, "a\0b")
    assert (await reader.completed()).content == "a\ufffdb"
    assert (await user.messages())[-1].content == "a\ufffdb"


async def test_an_answer_without_text(stage: Stage) -> None:
    user = await stage.user()
    reader, start = await stage.turn(user)
    stage.engine.finish(start.generation_id)
    answer = await reader.completed()
    assert (answer.content, answer.status) == ("", STATUS.MESSAGE_STATUS_COMPLETED)
    assert start.generation_id not in stage.moderation.texts


async def test_a_conversation_that_is_deleted_meanwhile(stage: Stage) -> None:
    user = await stage.user()
    reader, start = await stage.turn(user)
    await user.delete()
    with pytest.raises(grpc.aio.AioRpcError) as gone:
        await user.messages()
    assert from_rpc_error(gone.value, service="conversation").reason is Reason.CONVERSATION_NOT_FOUND
    stage.engine.finish(start.generation_id, "Not gone.")
    answer = await reader.completed()
    assert (await stage.usage.settled(start.generation_id)).usage.completion_tokens == 2
    # Who undoes the deletion has lost nothing.
    await user.undelete()
    assert (await user.messages())[-1] == answer


async def test_one_turn_at_a_time(stage: Stage) -> None:
    user = await stage.user()
    reader, start = await stage.turn(user)
    refusal = await user.stream("And?").refusal()
    assert refusal.reason is Reason.CONVERSATION_BUSY
    assert refusal.metadata == {"conversation_id": user.conversation_id, "generation_id": start.generation_id}
    stage.engine.finish(start.generation_id, "Done.")
    await reader.completed()


async def test_identity_and_trace_go_with_calls_and_never_with_shared_streams(stage: Stage) -> None:
    await stage.end_streams()
    one, two = await stage.user(), await stage.user()
    turns = [await stage.turn(user) for user in (one, two)]
    for reader, start in turns:
        stage.engine.finish(start.generation_id, "Hi.")
        await reader.completed()

    for user, (_, start) in zip((one, two), turns, strict=True):
        assert user.trace_id in start.traceparent
    for method in stage.methods:
        assert [metadata["x-chatmesh-user"] for metadata in method.metadata] == [one.id, two.id], method.name
        assert [str(metadata["traceparent"]).split("-")[1] for metadata in method.metadata] == [
            one.trace_id,
            two.trace_id,
        ]
    for stream in (stage.engine.lives[-1], stage.moderation.lives[-1]):
        assert not {"x-chatmesh-user", "x-chatmesh-tier", "x-request-id", "traceparent"} & stream.metadata.keys()
