"""What late verdicts make of stored questions and answers, on a real database."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.conversation.chat_model import FinishReason
from services.conversation.fork_store import ForkStore
from services.conversation.generation_store import GenerationStore
from services.conversation.late_model import LateVerdict
from services.conversation.late_store import Effect, LateStore
from services.conversation.model import GenerationState, Message, MessageStatus, OpenTurn, TurnKind
from services.conversation.search_store import SearchStore
from services.conversation.share_store import ShareStore
from services.conversation.transfer.exporter import Exporter, ExportForm
from services.conversation.transfer.transfer_store import TransferStore
from services.conversation.turn_finish import RevisionWantedError
from services.runtime.clock import SystemClock
from services.runtime.database import Database
from services.runtime.errors import Reason
from tests.store.conversation.chats import Chat, outcome, refused
from tests.store.conversation.seeding import HandClock, conversation_database

SECRET = "unspeakable"
GONE = "(taken back)"


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with conversation_database(postgres_url) as opened:
        yield opened


@pytest.fixture
def late(database: Database) -> LateStore:
    return LateStore(database)


@pytest.fixture
async def chat(database: Database) -> Chat:
    return await Chat(database).create()


def entry(number: int) -> str:
    return f"{number:020d}-{0:020d}"


def verdict(turn: OpenTurn, *, retract: bool = True, of_input: bool = False, text: str = "") -> LateVerdict:
    return LateVerdict(
        turn.generation_id, turn.user_id, retract, of_input, "violence", GONE if retract else "", text, "event", "p2"
    )


async def answered(chat: Chat, question: str = "hello", text: str = f"the {SECRET} answer") -> OpenTurn:
    turn = await chat.open(question)
    await chat.end(turn, outcome(text))
    return turn


async def both(chat: Chat, turn: OpenTurn) -> tuple[Message, Message]:
    question, answer = [
        await chat.messages.get(user_id=chat.user, conversation_id=chat.id, message_id=id_)
        for id_ in (turn.user_message.id, turn.answer_id)
    ]
    return question, answer


async def test_an_answer_is_taken_back(chat: Chat, late: LateStore, database: Database) -> None:
    turn = await answered(chat)
    assert await late.apply(entry(1), verdict(turn)) is Effect.REVISED
    question, answer = await both(chat, turn)
    assert (question.status, question.content, question.error) == (MessageStatus.COMPLETED, "hello", None)
    assert (answer.status, answer.content) == (MessageStatus.BLOCKED, GONE)
    assert answer.finish_reason is FinishReason.CONTENT_FILTER
    assert answer.error is not None
    assert answer.error.reason == Reason.CONTENT_BLOCKED
    assert answer.error.metadata == {"category": "violence", "policy_version": "p2", "event_id": "event"}
    generations = GenerationStore(database=database, owner="o", name="o")
    generation = await generations.get(user_id=chat.user, generation_id=turn.generation_id)
    assert (generation.state, generation.revised) == (GenerationState.BLOCKED, True)
    stored = await generations.ended(turn.generation_id)
    assert stored is not None
    # It ended at 3; readers who saw that are told of two things more.
    assert stored.last_seq == 5
    assert stored.revision is not None
    assert stored.revision.length == len(f"the {SECRET} answer")
    # What the model sees next has nothing of it.
    following = await chat.open("and now?")
    page = await chat.turns.history(
        conversation_id=chat.id, path=following.path, before_depth=following.user_message.depth, limit=9
    )
    assert [message.content for *_, message in page.messages] == ["hello"]


async def test_twice_is_once(chat: Chat, late: LateStore, database: Database) -> None:
    turn = await answered(chat)
    for _ in range(2):
        assert await late.apply(entry(1), verdict(turn)) is Effect.REVISED
    stored = await GenerationStore(database=database, owner="o", name="o").ended(turn.generation_id)
    assert stored is not None
    assert stored.last_seq == 5


async def test_the_order_of_decisions_counts_and_not_that_of_their_coming(chat: Chat, late: LateStore) -> None:
    turn = await answered(chat)
    text = f"the {SECRET} answer"
    assert await late.apply(entry(2), verdict(turn, retract=False, text=text)) is Effect.REVISED
    assert await late.apply(entry(1), verdict(turn)) is Effect.OUTDATED
    assert (await both(chat, turn))[1].content == text
    # What is said of the question has its own order.
    assert await late.apply(entry(1), verdict(turn, of_input=True)) is Effect.REVISED


async def test_many_at_once(chat: Chat, late: LateStore) -> None:
    turn = await answered(chat)
    said = [(entry(n), verdict(turn, retract=bool(n % 2), text="given back")) for n in range(1, 12)]
    await asyncio.gather(*(late.apply(place, one) for place, one in reversed(said)))
    answer = (await both(chat, turn))[1]
    assert (answer.content, answer.status) == (GONE, MessageStatus.BLOCKED)


async def test_an_answer_is_given_back(chat: Chat, late: LateStore) -> None:
    turn = await chat.open()
    held = replace(outcome("shown"), status=MessageStatus.HELD, finish_reason=FinishReason.CONTENT_FILTER)
    await chat.end(turn, held)
    assert (await both(chat, turn))[1].status is MessageStatus.HELD
    effect = await late.apply(entry(1), verdict(turn, retract=False, text="shown, and the rest"))
    assert effect is Effect.REVISED
    answer = (await both(chat, turn))[1]
    assert (answer.content, answer.status, answer.error) == ("shown, and the rest", MessageStatus.COMPLETED, None)
    assert answer.finish_reason is FinishReason.STOP


async def test_what_nobody_kept_cannot_be_given_back(chat: Chat, late: LateStore) -> None:
    turn = await answered(chat)
    await late.apply(entry(1), verdict(turn))
    assert await late.apply(entry(2), verdict(turn, retract=False)) is Effect.NOTHING
    assert (await both(chat, turn))[1].status is MessageStatus.BLOCKED


async def test_a_question_goes_with_its_answer_and_comes_back_alone(chat: Chat, late: LateStore) -> None:
    turn = await answered(chat, "how to?")
    assert await late.apply(entry(1), verdict(turn, of_input=True)) is Effect.REVISED
    question, answer = await both(chat, turn)
    # It stays in the user's own history.
    assert (question.content, question.status, answer.content) == ("how to?", MessageStatus.BLOCKED, GONE)
    assert question.error is not None
    assert question.error.metadata["event_id"] == "event"
    assert answer.status is MessageStatus.BLOCKED
    await refused(Reason.WRONG_MESSAGE_ROLE, chat.regenerate(question.id, "again"))
    assert await late.apply(entry(2), verdict(turn, retract=False, of_input=True, text="x")) is Effect.REVISED
    question, answer = await both(chat, turn)
    assert (question.content, question.status, question.error) == ("how to?", MessageStatus.COMPLETED, None)
    assert answer.status is MessageStatus.BLOCKED
    assert question.cleared
    turn = await chat.open("", kind=TurnKind.REGENERATE, message_id=question.id)
    assert turn.user_message.cleared
    loaded = await chat.turns.load_turn(turn.generation_id)
    assert loaded is not None
    assert loaded.turn.user_message.cleared
    # What a model says of it when it is answered again counts less than what a person has said.
    assert await late.apply(entry(1), verdict(turn, of_input=True)) is Effect.NOTHING
    assert (await both(chat, turn))[0].status is MessageStatus.COMPLETED


async def test_a_redacted_question_comes_back_as_it_was(chat: Chat, late: LateStore) -> None:
    turn = await chat.open("call 12345")
    await chat.turns.change_question(turn, content="call [x]")
    await chat.end(turn)
    await late.apply(entry(1), verdict(turn, retract=False, of_input=True, text="call 12345"))
    assert (await both(chat, turn))[0].content == "call 12345"


async def test_an_open_answer_must_end_as_the_verdict_says(chat: Chat, late: LateStore) -> None:
    turn = await chat.open()
    for _ in range(2):
        assert await late.apply(entry(1), verdict(turn)) is Effect.WANTED
    loaded = await chat.turns.load_turn(turn.generation_id)
    assert loaded is not None
    assert loaded.stop_requested
    with pytest.raises(RevisionWantedError) as wanted:
        await chat.turns.finish_turn(turn, outcome(SECRET), model="m", route=None, last_seq=3)
    assert (wanted.value.revision.replacement, wanted.value.revision.length) == (GONE, None)
    # Nothing was stored, and it is not lost.
    assert (await both(chat, turn))[1].status is MessageStatus.IN_PROGRESS
    blocked = replace(outcome(GONE), status=MessageStatus.BLOCKED)
    message = await chat.turns.finish_turn(turn, blocked, model="m", route=None, last_seq=4, revised=True)
    assert message is not None
    assert message.content == GONE
    # The reply may have been lost.
    again = await chat.turns.finish_turn(turn, blocked, model="m", route=None, last_seq=4, revised=True)
    assert again == message
    assert await late.apply(entry(1), verdict(turn)) is Effect.REVISED


async def test_the_end_and_the_verdict_at_the_same_time(chat: Chat, late: LateStore) -> None:
    async def end(turn: OpenTurn) -> None:
        try:
            await chat.turns.finish_turn(turn, outcome(SECRET), model="m", route=None, last_seq=3)
        except RevisionWantedError:
            blocked = replace(outcome(GONE), status=MessageStatus.BLOCKED)
            await chat.turns.finish_turn(turn, blocked, model="m", route=None, last_seq=4, revised=True)

    for number in range(20):
        turn = await chat.open(f"question {number}")
        await asyncio.gather(end(turn), late.apply(entry(number + 1), verdict(turn)))
        answer = (await both(chat, turn))[1]
        assert (answer.content, answer.status) == (GONE, MessageStatus.BLOCKED)


async def test_what_is_open_cannot_be_given_back_yet(chat: Chat, late: LateStore) -> None:
    turn = await chat.open()
    assert await late.apply(entry(1), verdict(turn, retract=False, text="x")) is Effect.NOT_YET
    await chat.end(turn)
    assert await late.apply(entry(1), verdict(turn, retract=False, text="x")) is Effect.REVISED


async def test_one_of_another_user_or_of_nobody(chat: Chat, late: LateStore) -> None:
    turn = await answered(chat)
    said = verdict(turn)
    assert await late.apply(entry(1), replace(said, user_id="mallory")) is Effect.UNKNOWN
    assert await late.apply(entry(1), replace(said, generation_id=str(uuid.uuid4()))) is Effect.UNKNOWN
    await refused(Reason.GENERATION_NOT_FOUND, late.apply(entry(1), replace(said, generation_id="no id")))
    assert SECRET in (await both(chat, turn))[1].content


async def test_nobody_gets_to_see_what_was_taken_back(chat: Chat, late: LateStore, database: Database) -> None:
    """Links, copies of the user and of others, the search and the export."""
    clock = HandClock()
    forks, shares = ForkStore(database=database, clock=clock), ShareStore(database=database, clock=clock)
    turn = await answered(chat, "a question", f"the {SECRET} answer")
    link = await shares.create(user_id=chat.user, conversation_id=chat.id, message_id="")
    own = await forks.fork(user_id=chat.user, conversation_id=chat.id, message_id="", title="", request_id="")
    copy_of_copy = await forks.fork(user_id=chat.user, conversation_id=own.id, message_id="", title="", request_id="")
    others = await forks.continue_shared(user_id="bob", token=link.token, request_id="")
    search = SearchStore(database=database)
    exporter = Exporter(store=TransferStore(database=database), clock=SystemClock())

    async def seen() -> str:
        said = [message.content for message in (await shares.read(token=link.token, limit=9, after=0)).messages]
        for user, conversation in ((chat.user, own.id), (chat.user, copy_of_copy.id), ("bob", others.id)):
            page = await chat.messages.list_branch(
                user_id=user, conversation_id=conversation, leaf_message_id="", limit=9, after=None, newest_first=False
            )
            said += [message.content for message in page.messages]
            hits = await search.search(user_id=user, query=SECRET, model="", start=None, end=None, limit=9, before=None)
            said += [hit.snippet for hit in hits]
        return " ".join(said)

    # The fault bites: all of these show it.
    assert (await seen()).count(SECRET) >= 6
    assert await late.apply(entry(1), verdict(turn)) is Effect.REVISED
    assert SECRET not in await seen()
    export = exporter.export(user_id=chat.user, conversation_id="", form=ExportForm.JSON)
    exported = b"".join([part async for part in export])
    assert SECRET.encode() not in exported
    # And given back, it is so everywhere.
    assert await late.apply(entry(2), verdict(turn, retract=False, text=f"the {SECRET} answer")) is Effect.REVISED
    assert (await seen()).count(SECRET) >= 6
    assert await late.apply(entry(3), verdict(turn, of_input=True)) is Effect.REVISED
    page = await chat.messages.list_branch(
        user_id="bob", conversation_id=others.id, leaf_message_id="", limit=9, after=None, newest_first=False
    )
    assert [message.status for message in page.messages] == [MessageStatus.BLOCKED] * 2
