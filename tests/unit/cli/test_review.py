"""What a reviewer is shown and writes."""

from __future__ import annotations

import argparse
import getpass
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from chatmesh.moderation.v1 import review_service_pb2 as pb
from chatmesh.moderation.v1 import verdict_pb2
from services.cli import review
from services.cli.errors import CliError
from services.cli.home import Home
from services.cli.moderation import add_review_arguments, run_review
from services.cli.settings import CliSettings

ID = "6f1c0c1e-0f3b-4c5e-9a55-2d3f6f7a8b9c"
WHEN = Timestamp(seconds=int(datetime(2026, 3, 4, 12, 0, 5, tzinfo=UTC).timestamp()))


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_review_arguments(parser.add_subparsers(dest="moderation_command", required=True))
    return parser.parse_args(words)


def held(**about: object) -> pb.Event:
    fields: dict[str, object] = {
        "event_id": ID,
        "create_time": WHEN,
        "generation_id": "g1",
        "user_id": "ann",
        "tier": "plus",
        "input": True,
        "action": verdict_pb2.ACTION_HOLD,
        "category": "violence",
        "findings": [
            verdict_pb2.Finding(
                category="violence",
                rule="classifier",
                start=3,
                end=9,
                action=verdict_pb2.ACTION_HOLD,
                layer=verdict_pb2.LAYER_CLASSIFIER,
                score=0.914,
            )
        ],
        "text_sha256": "ab" * 32,
        "text_length": 12,
        "text": "😀, hurt\x1b[31m!",
        "text_kept": True,
        "policy_version": "p1",
        "state": pb.EVENT_STATE_CLAIMED,
        "claimed_by": "rita",
    }
    return pb.Event(**{**fields, **about})  # type: ignore[arg-type]


def test_a_list_for_people() -> None:
    rows = [
        line.split("  ")
        for line in review.render_list([held(text=""), held(appeal="no", text_kept=False)]).splitlines()
    ]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells[1] == [
        *(ID, "2026-03-04 12:00:05Z", "user", "hold", "violence", "claimed by rita", "ann", "kept", "-"),
    ]
    assert cells[2][-2:] == ["-", "yes"]
    assert review.render_list([]) == "no events"


def test_an_event_for_people_shows_what_was_found_in_the_texts_own_words() -> None:
    shown = review.render_event(held())
    assert "\x1b" not in shown, "a terminal must not obey a text"
    assert "hurt[" in shown.splitlines()[-3], "offsets are those of the text as it was"
    assert shown.splitlines()[-1] == "😀, hurt[31m!"
    assert "state         claimed by rita" in shown
    gone = review.render_event(held(text="", text_kept=False, late=True, action=verdict_pb2.ACTION_BLOCK))
    assert gone.endswith("the text is not kept")
    assert "block (late)" in gone


def test_an_event_tells_of_the_appeal_and_the_decision() -> None:
    shown = review.render_event(
        held(
            state=pb.EVENT_STATE_DECIDED,
            claimed_by="",
            appeal="it was a joke",
            appeal_time=WHEN,
            decision=pb.DECISION_OVERTURN,
            decided_by="rita",
            decide_time=WHEN,
            comment="it was",
        )
    )
    assert "appeal        2026-03-04 12:00:05Z it was a joke" in shown
    assert "decision      overturn by rita 2026-03-04 12:00:05Z: it was" in shown


def test_the_lines_of_an_appeal_are_no_facts() -> None:
    shown = review.render_event(
        held(appeal="please\nstate         decided\r\ndecision      overturn", appeal_time=WHEN)
    )
    begins = [line.split()[0] for line in shown.splitlines() if line and not line.startswith(" ")]
    assert begins.count("state") == 1
    assert "decision" not in begins


def test_a_decision_as_the_training_data_has_its_rows() -> None:
    row = pb.TrainingRow(id=ID, text="hé", label="safe", categories=["hate"], kind="input", head="harm")
    written = review.training_row(row)
    assert set(written) == {
        *("id", "text", "label", "categories", "source", "kind", "set", "head", "nc", "cluster", "part"),
    }
    assert (written["id"], written["text"], written["label"], written["categories"]) == (ID, "hé", "safe", ["hate"])
    assert (written["kind"], written["head"], written["source"], written["part"]) == (
        "input",
        "harm",
        "review",
        "train",
    )
    same = review.training_row(pb.TrainingRow(id="other", text="hé"))
    other = review.training_row(pb.TrainingRow(id="other", text="he"))
    assert same["cluster"] == written["cluster"] != other["cluster"]


def test_the_reviewer_is_the_login_unless_said_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def show(address: str, arguments: argparse.Namespace, *, reviewer: str) -> int:
        asked.append((address, reviewer))
        return 0

    monkeypatch.setattr(review, "show_event", show)
    monkeypatch.setattr(getpass, "getuser", lambda: "rita")
    settings = CliSettings(home=Home(tmp_path))
    assert run_review(parse("show", ID, "--moderation", "h:1"), settings=settings) == 0
    assert run_review(parse("show", ID, "--moderation", "h:1", "--as", "sam"), settings=settings) == 0
    assert asked == [("h:1", "rita"), ("h:1", "sam")]
    with pytest.raises(CliError, match="--as: at most 128"):
        run_review(parse("show", ID, "--moderation", "h:1", "--as", "x" * 129), settings=settings)

    def nobody() -> str:
        raise KeyError("uid")

    monkeypatch.setattr(getpass, "getuser", nobody)
    with pytest.raises(CliError, match="say who you are: --as NAME"):
        run_review(parse("show", ID, "--moderation", "h:1"), settings=settings)
    with pytest.raises(CliError, match="say where the moderation of a running one is: --moderation HOST:PORT"):
        run_review(parse("list", "--as", "sam"), settings=settings)


def test_durations_that_make_no_sense_are_refused_by_name(tmp_path: Path) -> None:
    settings = CliSettings(home=Home(tmp_path))
    for words, named in (
        (("claim", "--for", "soon"), "--for"),
        (("claim", "--for", "2d"), "--for: from 1s to 24h"),
        (("export", "--since", "9999999999999d"), "--since"),
    ):
        with pytest.raises(CliError, match=named):
            run_review(parse(*words, "--moderation", "127.0.0.1:1", "--as", "rita"), settings=settings)


@pytest.mark.parametrize("words", [("list", "--limit", "0"), ("list", "--state", "odd"), ("decide", ID, "maybe")])
def test_words_that_are_none_of_the_commands(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(*words)
    assert caught.value.code == 2


def test_an_export_is_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def rows(*_: object, **__: object) -> AsyncIterator[pb.TrainingRow]:
        yield pb.TrainingRow(id=ID, text="what a user said")

    monkeypatch.setattr(review, "exported_decisions", rows)
    file = tmp_path / "rows.jsonl"
    (tmp_path / "rows.jsonl.part").touch(mode=0o644)
    words = ("export", str(file), "--moderation", "127.0.0.1:1", "--as", "rita")
    assert run_review(parse(*words), settings=CliSettings(home=Home(tmp_path))) == 0
    assert "what a user said" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_export_that_breaks_leaves_no_half_file(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("before\n")
    words = ("export", str(file), "--moderation", "127.0.0.1:1", "--as", "rita")
    with pytest.raises(CliError, match="moderation service is not available"):
        run_review(parse(*words), settings=CliSettings(home=Home(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    assert file.read_text() == "before\n"
    words = ("export", str(tmp_path / "missing" / "rows"), "--moderation", "127.0.0.1:1", "--as", "rita")
    with pytest.raises(CliError, match="No such file"):
        run_review(parse(*words), settings=CliSettings(home=Home(tmp_path)))
