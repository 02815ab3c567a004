"""Branches on a real database: listed, shown and compared with a tree that is nothing but a tree."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.conversation.chat_model import Role
from services.conversation.model import OpenTurn, Rating, TurnKind
from services.conversation.turn_history import history_pages
from services.runtime.database import Database
from services.runtime.errors import Reason
from tests.store.conversation.chats import Chat, refused
from tests.store.conversation.seeding import conversation_database

EDIT, REGENERATE = TurnKind.EDIT, TurnKind.REGENERATE


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with conversation_database(postgres_url) as opened:
        yield opened


@pytest.fixture
async def chat(database: Database) -> Chat:
    return await Chat(database).create()


# Reading


async def test_a_branch_is_read_in_pages_from_either_end(chat: Chat) -> None:
    first = await chat.say("one")
    await chat.say("two")
    await chat.edit(first.user_message.id, "b")
    last = await chat.say("c")
    whole = await chat.branch()
    assert [m.content for m in whole] == ["b", "[b]", "c", "[c]"]
    assert [m.depth for m in whole] == [1, 2, 3, 4]
    assert whole[-1].id == last.answer_id
    for size in range(1, 6):
        assert await chat.branch(page_size=size) == whole
        assert await chat.branch(page_size=size, newest_first=True) == whole[::-1]


async def test_pages_end_where_the_branch_does(chat: Chat) -> None:
    await chat.say("one")

    async def page(after: int | None, *, newest_first: bool) -> int:
        return len(
            (
                await chat.messages.list_branch(
                    user_id="alice",
                    conversation_id=chat.id,
                    leaf_message_id="",
                    limit=5,
                    after=after,
                    newest_first=newest_first,
                )
            ).messages
        )

    assert [await page(after, newest_first=False) for after in (-(2**40), 0, 1, 2, 3, 2**40)] == [2, 2, 1, 0, 0, 0]
    assert [await page(after, newest_first=True) for after in (2**40, 3, 2, 1, 0, -(2**40))] == [2, 2, 1, 0, 0, 0]


async def test_a_branch_ends_in_any_message(chat: Chat) -> None:
    first = await chat.say("one")
    await chat.say("two")
    assert await chat.texts(first.answer_id) == "one [one]"
    assert await chat.texts(first.user_message.id) == "one"


async def test_messages_come_with_what_the_user_thinks_of_them(chat: Chat, database: Database) -> None:
    first = await chat.say("one")
    await chat.say("two")
    await database.statement(
        "INSERT INTO conversation.feedback VALUES (%(id)s, %(message)s, 'down', 'style', 'long', now())",
        {"id": chat.id, "message": first.answer_id},
    )
    listed = await chat.branch()
    assert [bool(m.feedback) for m in listed] == [False, True, False, False]
    feedback = listed[1].feedback
    assert feedback is not None
    assert (feedback.rating, feedback.reason, feedback.comment) == (Rating.DOWN, "style", "long")
    assert await chat.message(first.answer_id) == listed[1]


async def test_only_versions_of_a_message_are_its_siblings(chat: Chat) -> None:
    first = await chat.say("one")
    again = await chat.regenerate(first.answer_id, "one again")
    edited = await chat.edit(first.user_message.id, "b")
    listed = await chat.branch(again.answer_id)
    assert [m.sibling_ids for m in listed] == [
        (first.user_message.id, edited.user_message.id),
        (first.answer_id, again.answer_id),
    ]
    assert [m.sibling_ids for m in await chat.branch()] == [(first.user_message.id, edited.user_message.id), ()]


async def test_messages_belong_to_their_user_and_conversation(chat: Chat, database: Database) -> None:
    turn = await chat.say("one")
    other = await (await Chat(database).create()).say("elsewhere")
    for somebody in (Chat(database, user="bob").adopt(chat.id), Chat(database).adopt("no-id")):
        for call in (
            somebody.branch(),
            somebody.branch(turn.answer_id),
            somebody.message(turn.answer_id),
            somebody.select(turn.answer_id),
        ):
            await refused(Reason.CONVERSATION_NOT_FOUND, call)
    for id_ in (other.answer_id, str(uuid.uuid4()), "no-id"):
        for call in (chat.branch(id_), chat.message(id_), chat.select(id_)):
            error = await refused(Reason.MESSAGE_NOT_FOUND, call)
            assert error.metadata == {"message_id": id_}
    await chat.conversations.delete(user_id="alice", conversation_id=chat.id)
    for call in (chat.branch(), chat.branch(turn.answer_id), chat.message(turn.answer_id), chat.select(turn.answer_id)):
        await refused(Reason.CONVERSATION_NOT_FOUND, call)


# Showing


async def test_a_sibling_is_shown_down_to_the_newest_message_below_it(chat: Chat) -> None:
    first = await chat.say("one")
    two = await chat.say("two")
    await chat.say("three")
    await chat.edit(two.user_message.id, "b")
    await chat.edit(first.user_message.id, "other")
    # Below it are two branches; the one that was written to last is shown.
    assert (await chat.select(first.user_message.id)).current_message_id == (await chat.get()).current_message_id
    assert await chat.texts() == "one [one] b [b]"
    await chat.select(two.user_message.id)
    assert await chat.texts() == "one [one] two [two] three [three]"
    four = await chat.say("four")
    await chat.select(first.answer_id)
    assert await chat.texts() == "one [one] two [two] three [three] four [four]"
    await chat.select(four.answer_id)
    assert (await chat.get()).current_message_id == four.answer_id


async def test_a_branch_that_leaves_above_is_not_below(chat: Chat) -> None:
    await chat.say("one")
    two = await chat.say("two")
    await chat.regenerate(two.answer_id, "two again")
    await chat.say("later")
    await chat.select(two.answer_id)
    assert await chat.texts() == "one [one] two [two]"


async def test_to_show_is_no_change_of_the_conversation(chat: Chat) -> None:
    first = await chat.say("one")
    await chat.edit(first.user_message.id, "b")
    before = await chat.get()
    assert await chat.select(first.answer_id) == replace(before, current_message_id=first.answer_id)
    assert await chat.get() == replace(before, current_message_id=first.answer_id)


async def test_nothing_else_is_shown_while_an_answer_is_generated(chat: Chat) -> None:
    first = await chat.say("one")
    turn = await chat.open("two")
    error = await refused(Reason.CONVERSATION_BUSY, chat.select(first.answer_id))
    assert error.metadata == {"conversation_id": chat.id, "generation_id": turn.generation_id}
    assert (await chat.get()).current_message_id == turn.answer_id
    await chat.end(turn)
    await chat.select(first.answer_id)


async def test_who_shows_waits_for_who_begins(chat: Chat, database: Database, postgres_url: str) -> None:
    first = await chat.say("one")
    async with await psycopg.AsyncConnection.connect(postgres_url) as other:
        await other.execute("UPDATE conversation.conversations SET active_generation_id = gen_random_uuid()")
        select = asyncio.create_task(chat.select(first.answer_id))
        async with asyncio.timeout(10):
            while not await database.statement("SELECT 1 FROM pg_locks WHERE NOT granted"):
                pass
        await other.commit()
    await refused(Reason.CONVERSATION_BUSY, select)


# Against a tree that is nothing but a tree


@dataclass
class Node:
    """A message as somebody would keep it who has only a pencil."""

    id: str
    parent: Node | None
    role: Role
    text: str
    children: list[Node] = field(default_factory=list)

    def way(self) -> list[Node]:
        return [*(self.parent.way() if self.parent else []), self]

    def below(self) -> list[Node]:
        return [self, *(node for child in self.children for node in child.below())]


@dataclass
class Tree:
    """All messages in the order in which they were written, and the one that is shown."""

    root: Node = field(default_factory=lambda: Node("", None, Role.SYSTEM, ""))
    nodes: list[Node] = field(default_factory=list)
    leaf: Node | None = None

    def of(self, role: Role) -> Sequence[Node]:
        return [node for node in self.nodes if node.role is role]

    def add(self, turn: OpenTurn, parent: Node | None) -> None:
        """A turn whose question follows `parent`, or, when the question was there, is `parent`."""
        question = parent
        if turn.own_question:
            question = self._node(turn.user_message.id, parent, Role.USER, turn.user_message.content)
        assert question is not None
        self.leaf = self._node(turn.answer_id, question, Role.ASSISTANT, "")

    def _node(self, id_: str, parent: Node | None, role: Role, text: str) -> Node:
        node = Node(id_, parent, role, text)
        (parent or self.root).children.append(node)
        self.nodes.append(node)
        return node

    def siblings(self, node: Node) -> tuple[str, ...]:
        versions = (node.parent or self.root).children
        return tuple(version.id for version in versions) if len(versions) > 1 else ()

    def show(self, node: Node) -> None:
        self.leaf = max(node.below(), key=self.nodes.index)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "follow", "edit", "regenerate", "select", "discard"]), st.integers(0, 10**6)
    ),
    min_size=6,
    max_size=24,
)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, page_size=st.integers(1, 9))
async def test_every_branch_is_as_in_a_plain_tree(
    database: Database, steps: list[tuple[str, int]], page_size: int
) -> None:
    chat, tree = await Chat(database).create(), Tree()
    for number, (step, pick) in enumerate(steps):
        await take(chat, tree, step, pick, f"m{number}")
        assert (await chat.get()).current_message_id == (tree.leaf.id if tree.leaf else "")
        assert (await chat.get()).message_count == len(tree.nodes)
    if tree.leaf:
        await compare(chat, tree, tree.leaf, "", page_size)
    for node in tree.nodes:
        await compare(chat, tree, node, node.id, page_size)
        await compare_history(chat, node, page_size)


async def take(chat: Chat, tree: Tree, step: str, pick: int, text: str) -> None:
    if step == "send" or not tree.nodes:
        tree.add(await chat.say(text), tree.leaf)
        return
    questions = tree.of(Role.USER)
    node = tree.nodes[pick % len(tree.nodes)]
    question = questions[pick % len(questions)]
    match step:
        case "follow":
            tree.add(await chat.say(text, message_id=node.id), node)
        case "edit":
            tree.add(await chat.edit(question.id, text), question.parent)
        case "regenerate":
            turn = await chat.regenerate(node.id, text)
            tree.add(turn, node if node.role is Role.USER else node.parent)
        case "select":
            await chat.select(node.id)
            tree.show(node)
        case _:
            await begin_and_discard(chat, node, question, pick)


async def begin_and_discard(chat: Chat, node: Node, question: Node, pick: int) -> None:
    kind = list(TurnKind)[pick % 3]
    target = question.id if kind is EDIT else node.id if pick % 2 else question.id
    turn = await chat.open(kind=kind, message_id=target)
    loaded = await chat.turns.load_turn(turn.generation_id)
    assert loaded is not None
    # What was shown may be another branch, which is not stored.
    assert replace(loaded.turn, previous_leaf=turn.previous_leaf) == turn
    await chat.turns.discard_turn(turn)


async def compare(chat: Chat, tree: Tree, leaf: Node, leaf_message_id: str, page_size: int) -> None:
    found = await chat.branch(leaf_message_id, page_size=page_size)
    assert [(m.id, m.parent_id, m.role, m.sibling_ids, m.depth) for m in found] == [
        (node.id, node.parent.id if node.parent else "", node.role, tree.siblings(node), depth)
        for depth, node in enumerate(leaf.way(), 1)
    ]
    assert await chat.branch(leaf_message_id, page_size=page_size, newest_first=True) == found[::-1]
    assert await chat.message(leaf.id) == found[-1]


async def compare_history(chat: Chat, node: Node, page_size: int) -> None:
    turn = await chat.open(message_id=node.id)
    pages, found, exhausted = history_pages(chat.turns, turn), list[str](), False
    while not exhausted:
        messages, exhausted = await pages(page_size)
        found += [id_ for id_, _ in messages]
    assert found == [n.id for n in node.way()[::-1]]
    await chat.turns.discard_turn(turn)
