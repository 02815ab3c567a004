"""What the command tells a person when it cannot go on."""

from __future__ import annotations


class CliError(Exception):
    """The command cannot go on. The text says what is wrong and what to do; it is printed as it stands."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
