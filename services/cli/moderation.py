"""`chatmesh moderation`: what can be asked of the review queue. What is asked is done in review.py."""

from __future__ import annotations

import argparse
import getpass
from typing import TYPE_CHECKING

from services.cli.errors import CliError

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.cli.settings import CliSettings

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

STATES = ("closed", "pending", "claimed", "decided")
DECISIONS = ("uphold", "overturn")
REVIEWER_LENGTH = 128


def add_review_arguments(commands: Subparsers) -> None:
    """The commands of the review queue."""
    listed = commands.add_parser("list", help="list what moderation did, newest first, without texts")
    listed.add_argument("--state", choices=STATES, default="", help="only events in this state")
    listed.add_argument("--category", default="", help="only this category")
    listed.add_argument("--user", default="", help="only this user's")
    listed.add_argument("--generation", default="", metavar="ID", help="only this generation's")
    listed.add_argument("--appealed", action="store_true", help="only those against which their user has appealed")
    listed.add_argument("--limit", type=_count, default=50, metavar="N", help="at most so many (default 50)")

    show = commands.add_parser("show", help="show one event, with its text when that is kept")
    claim = commands.add_parser("claim", help="take an event, by default the one that waits longest, appeals first")
    release = commands.add_parser("release", help="give a claimed event back")
    decide = commands.add_parser("decide", help="decide on an event that you have claimed")
    audit = commands.add_parser("audit", help="say who has looked at an event and what they did")
    for one in (show, release, decide, audit):
        one.add_argument("event", metavar="EVENT", help="its id")
    claim.add_argument("event", metavar="EVENT", nargs="?", default="", help="its id (default: the next that waits)")
    claim.add_argument("--for", dest="lease", default="15m", metavar="TIME", help="for how long (default 15m)")
    decide.add_argument(
        "decision", choices=DECISIONS, help="uphold: the policy was right; overturn: it was wrong, give the text back"
    )
    decide.add_argument("--comment", default="", help="why")
    decide.add_argument("--category", default="", help="what it really is, when the policy found something else")

    export = commands.add_parser("export", help="write decisions as training data, a JSON object in each line")
    export.add_argument("file", metavar="FILE", nargs="?", default="-", help="where to (default: standard output)")
    export.add_argument("--since", default="", help="only decisions of the last 90s, 15m, 24h, 7d (default: all)")

    for command in (listed, show, claim, release, decide, audit, export):
        command.add_argument("--moderation", default="", metavar="HOST:PORT", help="Moderation of another mesh")
        command.add_argument(
            "--as", dest="reviewer", default="", metavar="NAME", help="who you are (default: your login name)"
        )
        if command is not export:
            command.add_argument("--json", action="store_true", help="for programs")


def run_review(arguments: argparse.Namespace, *, settings: CliSettings) -> int:
    """Do what was asked. Returns the exit code.

    Raises:
        CliError: Moderation does not answer, or refuses.
    """
    # gRPC is loaded when it is needed: `--help` must not wait for it.
    from services.cli import review
    from services.cli.inside import find_process

    reviewer = _reviewer(arguments.reviewer)
    address = find_process(settings, service="moderation", given=arguments.moderation)
    run: Callable[..., int] = {
        "list": review.list_events,
        "show": review.show_event,
        "claim": review.claim_event,
        "release": review.release_event,
        "decide": review.decide_event,
        "audit": review.show_audit,
        "export": review.export_decisions,
    }[arguments.moderation_command]
    return run(address, arguments, reviewer=reviewer)


def _reviewer(given: str) -> str:
    name = given.strip()
    if not name:
        try:
            name = getpass.getuser()
        except (OSError, KeyError, ImportError) as error:
            raise CliError("this login has no name; say who you are: --as NAME", exit_code=2) from error
    if len(name) > REVIEWER_LENGTH:
        raise CliError(f"--as: at most {REVIEWER_LENGTH} characters", exit_code=2)
    return name


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 100000")
    return int(text)
