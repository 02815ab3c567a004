"""What goes wrong."""

from __future__ import annotations


class RequestError(RuntimeError):
    """One request cannot be done; the others go on."""
