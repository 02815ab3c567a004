"""The `chatmesh` command."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from pathlib import Path

from services.cli import moderation_eval
from services.cli.errors import CliError
from services.cli.moderation import add_review_arguments, run_review
from services.cli.settings import CliSettings

_HOME_HELP = "State is kept under CHATMESH_HOME (.chatmesh); the edge listens on CHATMESH_PORT (8080), loopback only."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chatmesh", description="A mesh of chat services.", epilog=_HOME_HELP)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="start the whole mesh on this machine", epilog=_HOME_HELP)
    up.add_argument("--detach", "-d", action="store_true", help="run it in the background; return when it is ready")
    up.add_argument("--models", metavar="FILE", help="models file, in place of CHATMESH_MODELS_FILE")
    up.add_argument(
        "--replicas",
        metavar="SERVICE=N,...",
        help="processes of a service, such as conversation=2,inference=2; in place of CHATMESH_REPLICAS",
    )
    up.add_argument("--quiet", "-q", action="store_true", help="say only when it is ready")
    up.add_argument("--no-token", action="store_true", help="do not print a token")
    up.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)

    commands.add_parser("down", help="stop the mesh of this home")

    status = commands.add_parser("status", help="show every process; exits 0 when all are healthy")
    status.add_argument("--json", action="store_true", help="for programs")

    token = commands.add_parser("token", help="print a token for a user of the local mesh")
    token.add_argument("--user", "-u", required=True, help="user id, becomes the claim `sub`")
    token.add_argument("--tier", default="", help="tier, such as free, plus or enterprise; default: the mesh's default")
    token.add_argument(
        "--residency", default="", help="where their data must stay: one of the models file's residencies"
    )
    token.add_argument("--tenant", default="", help="organisation that they belong to; the content policy may name it")
    token.add_argument("--ttl", default="24h", help="how long it is good for: 90s, 15m, 24h, 7d (default 24h)")

    engine = commands.add_parser("engine", help="look at the engines of this machine")
    engine_commands = engine.add_subparsers(dest="engine_command", required=True, metavar="COMMAND")
    check = engine_commands.add_parser(
        "check", help="run the conformance suite on engines; for TensorRT-LLM compare the installed library first"
    )
    check.add_argument("--models", metavar="FILE", help="models file, in place of CHATMESH_MODELS_FILE")
    check.add_argument("--model", "-m", default="", metavar="NAME", help="only this model (default: all)")
    check.add_argument("--case", metavar="NAME", action="append", default=[], help="only this case; may be repeated")

    moderation = commands.add_parser("moderation", help="look at how texts are judged, and decide on what was held")
    moderation_commands = moderation.add_subparsers(dest="moderation_command", required=True, metavar="COMMAND")
    moderation_eval.add_arguments(
        moderation_commands.add_parser("eval", help="judge labelled texts and say how well, without a mesh")
    )
    add_review_arguments(moderation_commands)

    models = commands.add_parser("models", help="list the models, what they can do and cost")
    fleet = commands.add_parser("fleet", help="show the inference replicas, on a terminal live")
    fleet.add_argument("--once", action="store_true", help="show it once, also on a terminal")
    for inside in (models, fleet):
        inside.add_argument("--router", default="", metavar="HOST:PORT", help="Router of another mesh")
    experiments = commands.add_parser("experiments", help="compare the arms of an experiment")
    experiments.add_argument("name", metavar="NAME", help="its name in the models file")
    experiments.add_argument("--since", default="", help="only answers of the last 90s, 15m, 24h, 7d (default: all)")
    experiments.add_argument(
        "--conversation",
        default="",
        metavar="HOST:PORT",
        help="Conversation service of another mesh",
    )
    for listed in (models, fleet, experiments):
        listed.add_argument("--json", action="store_true", help="for programs")
    chat = commands.add_parser("chat", help="chat in the terminal")
    for remote in (models, chat):
        remote.add_argument("--user", "-u", default="me", help="user of the local mesh to be (default: me)")
    chat.add_argument("--model", "-m", default="", help="model or alias (default: the conversation's)")
    chat.add_argument("--conversation", "-c", default="", metavar="ID", help="go on with this conversation")
    chat.add_argument("--system", default="", help="system prompt of a new conversation")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    # Each command imports what it needs when it is chosen: `token` must not wait for gRPC, nor `status` for Envoy.
    folder = Path.cwd()
    environment = dict(os.environ)
    if getattr(arguments, "models", None):
        environment["CHATMESH_MODELS_FILE"] = arguments.models
    if getattr(arguments, "replicas", None) is not None:
        environment["CHATMESH_REPLICAS"] = arguments.replicas
    settings = CliSettings.from_environment(environment, folder=folder)
    match arguments.command:
        case "up" if arguments.detach:
            from services.cli.detach import up_detached
            from services.cli.keys import SigningKey
            from services.cli.up import TOKEN_TTL_S, try_it, url_of

            flags = ["--quiet"] if arguments.quiet else []
            code = up_detached(settings.home, arguments=flags, environment=environment, folder=folder)
            if code == 0 and not arguments.no_token:
                token = SigningKey(settings.home.keys).sign(user="me", tier="", ttl_s=TOKEN_TTL_S)
                print(try_it(url_of(settings.port), token))
            return code
        case "up":
            from services.cli.up import up

            return up(
                settings,
                environment=environment,
                quiet=arguments.quiet,
                show_token=not arguments.no_token,
                ready_fd=arguments.ready_fd,
            )
        case "down":
            from services.cli.down import down

            return down(settings.home)
        case "status":
            from services.cli.status import mesh_status, render_json, render_status

            status = asyncio.run(mesh_status(settings.home))
            print(render_json(status) if arguments.json else render_status(status))
            return 0 if status.healthy else 1
        case "token":
            from services.cli.keys import SigningKey, parse_duration_s

            try:
                ttl_s = parse_duration_s(arguments.ttl)
            except ValueError as error:
                raise CliError(f"--ttl: {error}", exit_code=2) from error
            # What the edge takes for the id of a user.
            if not re.fullmatch("[!-~]{1,256}", arguments.user):
                raise CliError("--user: 1 to 256 printable ASCII characters without spaces", exit_code=2)
            settings.home.prepare()
            key = SigningKey(settings.home.keys)
            print(
                key.sign(
                    user=arguments.user,
                    tier=arguments.tier,
                    ttl_s=ttl_s,
                    residency=arguments.residency,
                    tenant=arguments.tenant,
                )
            )
            return 0
        case "engine":
            from services.cli.engine import check_engines

            return check_engines(model=arguments.model, cases=arguments.case, environment=environment)
        case "moderation" if arguments.moderation_command == "eval":
            return moderation_eval.evaluate_moderation(arguments, environment=environment)
        case "moderation":
            return run_review(arguments, settings=settings)
        case "models":
            from services.cli.models import show_models

            return show_models(settings, user=arguments.user, router=arguments.router, as_json=arguments.json)
        case "fleet":
            from services.cli.fleet import show_fleet

            return show_fleet(settings, router=arguments.router, once=arguments.once, as_json=arguments.json)
        case "experiments":
            from services.cli.experiments import show_experiment

            return show_experiment(
                settings,
                name=arguments.name,
                since=arguments.since,
                conversation=arguments.conversation,
                as_json=arguments.json,
            )
        case _:
            from services.cli.chat import chat

            return chat(
                settings,
                user=arguments.user,
                model=arguments.model,
                conversation_id=arguments.conversation,
                system_prompt=arguments.system,
            )


def main() -> int:
    """Run the command line. Returns the exit code."""
    arguments = _parser().parse_args()
    try:
        return _run(arguments)
    except CliError as error:
        print(f"chatmesh: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a pipe has seen enough, as in `chatmesh status | head -1`.
        # Nor may the interpreter's own flush at exit complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
