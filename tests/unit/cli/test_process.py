from __future__ import annotations

from pathlib import Path

from services.cli.process import Backoff, describe_exit, last_lines, rotate_log


def test_the_wait_doubles_up_to_its_limit() -> None:
    backoff = Backoff(first_s=0.2, longest_s=10.0, steady_s=10.0)

    delays = [backoff.next_delay_s(healthy_for_s=0.0) for _ in range(8)]

    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_a_process_that_was_steady_starts_with_the_shortest_wait_again() -> None:
    backoff = Backoff(first_s=0.2, longest_s=10.0, steady_s=10.0)
    for _ in range(4):
        backoff.next_delay_s(healthy_for_s=9.9)

    assert backoff.next_delay_s(healthy_for_s=10.0) == 0.2
    assert backoff.next_delay_s(healthy_for_s=0.5) == 0.4


def test_an_exit_is_named_by_its_signal() -> None:
    assert describe_exit(3) == "exit 3"
    assert describe_exit(-9) == "SIGKILL"


def test_a_log_beyond_its_limit_is_cut_under_the_hands_of_its_writer(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 100)
        rotate_log(log, limit_bytes=100, backups=2)
        assert log.stat().st_size == 100
        writer.write(b"y")

        rotate_log(log, limit_bytes=100, backups=2)
        writer.write(b"new")

    assert log.read_bytes() == b"new"
    assert (tmp_path / "a.log.1").read_bytes() == b"x" * 100 + b"y"


def test_old_logs_are_dropped(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    for content in (b"first", b"second", b"third"):
        log.write_bytes(content)
        rotate_log(log, limit_bytes=1, backups=2)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1", "a.log.2"]
    assert (tmp_path / "a.log.2").read_bytes() == b"second"


def test_the_end_of_a_log_is_what_this_run_wrote(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("from the run before\n")
    since = log.stat().st_size
    with log.open("a") as file:
        file.write("one\n\ntwo\nthree\n")

    assert last_lines(log, since=since, count=2) == ["two", "three"]
    assert last_lines(log, since=since) == ["one", "two", "three"]
    assert last_lines(tmp_path / "none.log") == []
