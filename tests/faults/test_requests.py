"""What users ask for while processes die: a message that is sent again is stored once, and a stop stops."""

from __future__ import annotations

import itertools
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.faults.breakage import CONVERSATION, all_serve, kill, owner_of, pids
from tests.faults.client import Client
from tests.mesh_process import MeshProcess

Undisturbed = Callable[[str], str]
SENDERS = 12
IMPATIENCE_S = 0.4
"""Less than an answer takes: each sender asks several times even when nothing happens."""
FINAL = ("ENGINE_FAILED", "ANSWER_LOST")
"""How an answer ends that was begun and will not come, however often it is asked for."""


def insist(client: Client, conversation_id: str, content: str) -> list[str]:
    """Send one message until it has an answer. Returns the ids of the answers that were given, most often one."""
    body: Mapping[str, Any] = {"content": content, "request_id": str(uuid.uuid4()), "sampling": {"max_tokens": 60}}
    begun = time.monotonic()
    seen: list[tuple[float, str]] = []
    while time.monotonic() < begun + 40:
        try:
            answer = client.http.post(
                f"/v1/conversations/{conversation_id}/messages",
                json=body,
                timeout=httpx.Timeout(5.0, read=IMPATIENCE_S),
            )
        except httpx.TransportError as error:
            seen.append((time.monotonic() - begun, type(error).__name__))
            continue
        if answer.status_code == 200:
            again = client.call("POST", f"/v1/conversations/{conversation_id}/messages", body)
            return [answer.json()["id"], again["id"]]
        seen.append((time.monotonic() - begun, f"{answer.status_code} {answer.text}"))
        assert answer.status_code in (429, 503), told(seen)
        assert not any(reason in answer.text for reason in FINAL), told(seen)
        time.sleep(0.02)
    raise AssertionError(f"no answer in {conversation_id}: {told(seen)}")


def told(seen: Sequence[tuple[float, str]]) -> str:
    """What a sender was told and when, the same things in a row as one line."""
    lines = []
    for what, run in itertools.groupby(seen, key=lambda one: one[1]):
        times = [at_s for at_s, _ in run]
        lines.append(f"{times[0]:6.2f} to {times[-1]:6.2f} s, {len(times)} times: {what}")
    return "\n" + "\n".join(lines)


def test_a_message_that_is_sent_again_is_stored_once(
    mesh_to_break: MeshProcess, client: Client, chance: random.Random
) -> None:
    processes = pids(mesh_to_break)
    conversations = [client.conversation() for _ in range(SENDERS)]
    with ThreadPoolExecutor(SENDERS) as pool:

        def send(conversation_id: str) -> list[str]:
            time.sleep(delays[conversation_id])
            return insist(client, conversation_id, "Hello")

        delays = {conversation_id: chance.uniform(0, 2) for conversation_id in conversations}
        answers = [pool.submit(send, conversation_id) for conversation_id in conversations]
        order = chance.sample(CONVERSATION, 2)
        time.sleep(chance.uniform(0.2, 1.0))
        kill(processes, order[:1])
        time.sleep(chance.uniform(0.2, 1.0))
        kill(processes, order[1:])
        found = [answer.result() for answer in answers]

    for conversation_id, ids in zip(conversations, found, strict=True):
        stored = client.messages(conversation_id)
        assert [(message["role"], message["status"]) for message in stored] == [
            ("ROLE_USER", "MESSAGE_STATUS_COMPLETED"),
            ("ROLE_ASSISTANT", "MESSAGE_STATUS_COMPLETED"),
        ]
        assert set(ids) == {stored[1]["id"]}
    all_serve(mesh_to_break)


def test_a_stop_reaches_an_answer_that_is_read_elsewhere(
    mesh_to_break: MeshProcess, client: Client, undisturbed: Undisturbed, chance: random.Random
) -> None:
    begun = [client.start("Hello") for _ in range(4)]
    for answer, end in begun:
        answer.reach(chance.randint(2, 100))
        stopped = client.call("POST", f"/v1/generations/{answer.generation_id}:stop", {})
        assert stopped["state"] == "GENERATION_STATE_STOPPED"
        end.result()
        check_stopped(answer.text, answer.message, undisturbed("Hello"))
        assert answer.connections == 1


def test_a_stop_right_after_the_owner_was_killed(
    mesh_to_break: MeshProcess, client: Client, undisturbed: Undisturbed, chance: random.Random
) -> None:
    processes = pids(mesh_to_break)
    begun = [client.start("Hello") for _ in range(4)]
    for answer, _ in begun:
        answer.reach(chance.randint(2, 30))
    kill(processes, {owner_of(mesh_to_break, answer.generation_id) for answer, _ in begun})
    for answer, _ in begun:
        client.call("POST", f"/v1/generations/{answer.generation_id}:stop", {})

    for answer, end in begun:
        end.result()
        check_stopped(answer.text, answer.message, undisturbed("Hello"))
        assert client.messages(answer.conversation_id)[-1] == answer.message
        state = client.call("GET", f"/v1/generations/{answer.generation_id}")["state"]
        assert state == "GENERATION_STATE_STOPPED"


def check_stopped(text: str, message: Mapping[str, Any], whole: str) -> None:
    """What was shown is the beginning of the answer, and is what is stored."""
    assert message["status"] == "MESSAGE_STATUS_STOPPED"
    assert message["content"] == text
    assert whole.startswith(text)
    assert text != whole
