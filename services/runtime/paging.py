"""Opaque page tokens that are bound to the request they came from.

A token holds the position after the last row of its page, not an offset, so that rows which come or go meanwhile are
neither repeated nor skipped.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence

from services.runtime.errors import DomainError, Reason

DEFAULT_PAGE_SIZE = 50


def encode_page_token(position: Sequence[str | int], *, scope: Sequence[str]) -> str:
    """The token for the page after `position`.

    Args:
        position: Values of the sort key of the last row on the page.
        scope: What the list is of, such as the user and the order; the token is refused for any other scope.
    """
    payload = json.dumps([_digest(scope), *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(payload.encode()).decode().rstrip("=")


def decode_page_token(token: str, *, scope: Sequence[str]) -> list[str | int] | None:
    """The position in a token, or None for an empty token.

    Raises:
        DomainError: INVALID_PAGE_TOKEN when it is no token of this scope.
    """
    if not token:
        return None
    try:
        digest, *position = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, TypeError, binascii.Error) as error:
        raise _invalid(token) from error
    if digest != _digest(scope) or not all(isinstance(part, str | int) for part in position):
        raise _invalid(token)
    return list(position)


def _digest(scope: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(scope)).encode()).hexdigest()[:16]


def _invalid(token: str) -> DomainError:
    return DomainError(
        Reason.INVALID_PAGE_TOKEN,
        "page_token is not one that this list returned; start again without it.",
        metadata={"page_token": token[:64]},
    )
