"""Runs a program so that it does not outlive the supervisor.

Started as a script by path with `python -I -S`, so that it costs about 10 ms: it imports nothing but the standard
library. It binds its life to the parent's (Linux only: elsewhere it just goes on), gives up root and cores where it is
told to, and becomes the program by `exec`, so the program keeps the process id that the supervisor knows.

The kernel forgets the bond when a process changes its user, so the order matters and a plain `Popen(user=...)` is not
enough.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def _call(libc: ctypes.CDLL, name: str, *arguments: object) -> None:
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _give_up_root(libc: ctypes.CDLL, *, uid: int, gid: int, capability: int | None) -> None:
    """Become another user; keep one capability (a number below 32), also across `exec`, when told to."""
    if capability is not None:
        _call(libc, "prctl", _PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if capability is not None:
        mask = 1 << capability
        header = _Header(_CAPABILITY_VERSION_3, 0)
        data = (_Data * 2)(_Data(mask, mask, mask), _Data(0, 0, 0))
        _call(libc, "capset", ctypes.byref(header), ctypes.byref(data))
        _call(libc, "prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0)


def main() -> int:
    """Parse, bind, become the program. Returns only when that failed."""
    parser = argparse.ArgumentParser(prog="child")
    parser.add_argument("--parent", type=int, required=True, help="process that this one must not outlive")
    parser.add_argument("--signal", type=int, required=True, help="signal to get when the parent is gone")
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("--capability", type=int)
    parser.add_argument("--core", type=int, action="append", help="core that it may use; all without any")
    parser.add_argument("program", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    program: list[str] = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if arguments.uid is not None:
            _give_up_root(libc, uid=arguments.uid, gid=arguments.gid, capability=arguments.capability)
        if sys.platform == "linux":
            if arguments.core:
                os.sched_setaffinity(0, arguments.core)
            _call(libc, "prctl", _PR_SET_PDEATHSIG, arguments.signal, 0, 0, 0)
            if os.getppid() != arguments.parent:
                return 1  # it died before the bond was made
        os.execv(program[0], program)  # noqa: S606 - that is what this is for
    except OSError as error:
        print(f"cannot start {program[0]}: {error}", file=sys.stderr)
    return 127


if __name__ == "__main__":
    sys.exit(main())
