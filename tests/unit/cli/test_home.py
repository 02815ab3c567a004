from __future__ import annotations

import random
import socket
import stat
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from services.cli.errors import CliError
from services.cli.home import SOCKET_PATH_LIMIT, Home, HomeBusyError
from services.cli.ports import LOOPBACK, free_ports, is_taken, require_free
from services.cli.settings import CliSettings


def test_only_one_can_hold_a_home(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.locked():
        assert home.is_locked()
        with pytest.raises(HomeBusyError), home.locked():
            pass
    assert not home.is_locked()


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    home = Home(tmp_path)
    script = (
        "import sys, pathlib; from services.cli.home import Home\n"
        "with Home(pathlib.Path(sys.argv[1])).locked(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert home.is_locked()
        holder.kill()
        holder.wait()
        assert not home.is_locked()


def test_nobody_else_can_read_logs_and_keys(tmp_path: Path) -> None:
    home = Home(tmp_path / "a" / "b")
    home.prepare()

    assert stat.S_IMODE(home.keys.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.logs.stat().st_mode) == 0o700
    assert not stat.S_IMODE(home.root.stat().st_mode) & 0o066


def test_sockets_of_a_deep_home_stand_elsewhere_and_the_same_place_each_time(tmp_path: Path) -> None:
    deep = Home(tmp_path / ("d" * 60) / ("e" * 60))
    deep.prepare()

    folder = deep.socket_dir("postgres")

    assert len(str(folder / ".s.PGSQL.5432.lock")) <= SOCKET_PATH_LIMIT
    assert folder == deep.socket_dir("postgres")
    assert not folder.is_relative_to(deep.root)
    deep.remove_short_dir()
    assert not folder.parent.exists()


def test_sockets_of_a_shallow_home_stand_in_it() -> None:
    with TemporaryDirectory(prefix="cm-") as folder:
        home = Home(Path(folder))
        home.prepare()
        assert home.socket_dir("redis").is_relative_to(home.run)


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(5, draw=random.Random(1))

    assert len(set(ports)) == 5
    assert not any(is_taken(port) for port in ports)


def test_a_taken_port_is_seen_and_passed_over() -> None:
    with socket.socket() as listener:
        (port,) = free_ports(1, draw=random.Random(7))
        listener.bind((LOOPBACK, port))
        listener.listen()

        assert is_taken(port)
        assert port not in free_ports(5, draw=random.Random(7))
        with pytest.raises(CliError, match=f"port {port} is taken.*CHATMESH_PORT"):
            require_free(port)


def test_settings_are_read_from_the_environment(tmp_path: Path) -> None:
    settings = CliSettings.from_environment(
        {"CHATMESH_HOME": "mesh", "CHATMESH_PORT": "9000", "CHATMESH_MODELS_FILE": "models.yaml"}, folder=tmp_path
    )

    assert settings.home.root == tmp_path / "mesh"
    assert settings.models_file == tmp_path / "models.yaml"
    assert settings.port == 9000
    assert CliSettings.from_environment({}, folder=tmp_path).home.root == tmp_path / ".chatmesh"


@pytest.mark.parametrize(("name", "value"), [("PORT", "http"), ("PORT", "0"), ("PORT", "70000"), ("URL", "host:80")])
def test_settings_that_make_no_sense_are_refused(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(CliError, match=f"CHATMESH_{name}"):
        CliSettings.from_environment({f"CHATMESH_{name}": value}, folder=tmp_path)
