"""`chatmesh moderation` against a real Moderation process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.moderation.model import Event
from services.runtime.clock import new_id
from tests.rpc.moderation.review_stage import insert, moderation_process, reviewing, today
from tests.rpc.service_process import ROOT, ServiceProcess
from tests.store.moderation.events import eventually


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


@dataclass
class Shell:
    """Runs the command as rita."""

    address: str
    home: Path

    async def run(self, *words: str, name: str = "rita") -> Ran:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "services.cli", "moderation", *words, "--moderation", self.address, "--as", name),
            cwd=ROOT,
            env={**os.environ, "CHATMESH_HOME": str(self.home), "CHATMESH_URL": ""},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())

    async def ok(self, *words: str, name: str = "rita") -> str:
        ran = await self.run(*words, name=name)
        assert ran.code == 0, ran.err
        return ran.out


@pytest.fixture
def moderation(postgres_url: str, redis_url: str) -> Iterator[ServiceProcess]:
    with moderation_process(postgres_url, redis_url) as service:
        yield service


@pytest.fixture
async def shell(moderation: ServiceProcess, tmp_path: Path) -> Shell:
    async with reviewing(moderation) as reviewer:
        await eventually(reviewer.answers, "the queue has its tables")
    return Shell(moderation.address(), tmp_path / "home")


@pytest.fixture
async def held(postgres_url: str) -> Event:
    event = today(text="how to hurt 😀 people")
    await insert(postgres_url, event)
    return event


async def test_from_the_queue_to_the_training_data(shell: Shell, held: Event, tmp_path: Path) -> None:
    listed = await shell.ok("list", "--state", "pending")
    assert held.event_id in listed
    assert "hurt" not in listed
    claimed = await shell.ok("claim", "--for", "5m")
    assert "how to hurt 😀 people" in claimed
    assert "claimed by rita" in claimed
    (event,) = json.loads(await shell.ok("list", "--json", "--user", "ann", "--category", "violence"))
    assert (event["state"], event["claimed_by"], event["text"]) == ("EVENT_STATE_CLAIMED", "rita", "")
    assert await shell.ok("release", held.event_id) == f"{held.event_id}: waits again\n"
    shown = await shell.ok("show", held.event_id, name="sam")
    assert "pending" in shown
    await shell.ok("claim", held.event_id)
    words = ("decide", held.event_id, "overturn", "--comment", "a song", "--category", "hate")
    assert await shell.ok(*words) == f"{held.event_id}: overturned; the text is given back\n"
    audit = await shell.ok("audit", held.event_id)
    assert [line.split()[-2:] for line in audit.splitlines()[1:]] == [
        *(["claim", "rita"], ["release", "rita"], ["view", "sam"], ["claim", "rita"], ["decide", "rita"]),
    ]
    file = tmp_path / "rows.jsonl"
    assert await shell.ok("export", str(file), "--since", "1h") == ""
    (row,) = [json.loads(line) for line in file.read_text().splitlines()]
    assert (row["id"], row["text"], row["label"], row["categories"]) == (
        *(held.event_id, "how to hurt 😀 people", "safe", ["hate"]),
    )
    assert (row["kind"], row["head"], row["source"]) == ("input", "harm", "review")
    assert json.loads(await shell.ok("export")) == row


async def test_more_than_a_page(shell: Shell, postgres_url: str) -> None:
    events = [today(after_s=number) for number in range(205)]
    await insert(postgres_url, *events)
    ran = await shell.run("list", "--limit", "203", "--json")
    assert [event["event_id"] for event in json.loads(ran.out)] == [event.event_id for event in events[:1:-1]]
    ran = await shell.run("list", "--limit", "2")
    assert len(ran.out.splitlines()) == 3
    assert "there are more" in ran.err
    assert len(json.loads(await shell.ok("list", "--limit", "1000", "--json"))) == 205


async def test_errors_say_what_is_wrong(shell: Shell, held: Event) -> None:
    await shell.ok("claim", held.event_id, name="sam")
    for words, said in (
        (("show", new_id()), "No such event."),
        (("show", "7"), "event_id"),
        (("decide", held.event_id, "uphold"), "The event is claimed by sam."),
        (("claim",), "No event waits for a reviewer."),
    ):
        ran = await shell.run(*words)
        assert (ran.code, ran.out) == (1, "")
        assert said in ran.err
        assert "Traceback" not in ran.err
    alone = Shell("127.0.0.1:1", shell.home)
    ran = await alone.run("list")
    assert (ran.code, ran.out) == (1, "")
    assert "moderation service is not available" in ran.err
