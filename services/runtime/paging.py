"""Opaque page tokens that are bound to the request they came from.

A token holds the position after the last row of its page, not an offset, so that rows which come or go meanwhile are
neither repeated nor skipped.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from services.runtime.errors import DomainError, Reason

DEFAULT_PAGE_SIZE = 50

T = TypeVar("T")


def encode_page_token(position: Sequence[str | int], *, scope: Sequence[str]) -> str:
    """The token for the page after `position`.

    Args:
        position: Values of the sort key of the last row on the page.
        scope: What the list is of, such as the user and the order; the token is refused for any other scope.
    """
    payload = json.dumps([_digest(scope), *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(payload.encode()).decode().rstrip("=")


def decode_page_token(token: str, *, scope: Sequence[str], read: Callable[..., T]) -> T | None:
    """The position in a token, or None for an empty token.

    Args:
        token: What the client sent.
        scope: As it was given to `encode_page_token`.
        read: Makes the position of the values that were encoded; a ValueError or TypeError says that they are none.

    Raises:
        DomainError: INVALID_PAGE_TOKEN when it is no token of this scope.
    """
    if not token:
        return None
    try:
        digest, *position = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        if digest != _digest(scope):
            raise _invalid(token)
        return read(*position)
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error) as error:
        raise _invalid(token) from error


def _digest(scope: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(scope)).encode()).hexdigest()[:16]


def _invalid(token: str) -> DomainError:
    return DomainError(
        Reason.INVALID_PAGE_TOKEN,
        "page_token is not one that this list returned; start again without it.",
        metadata={"page_token": token[:64]},
    )
