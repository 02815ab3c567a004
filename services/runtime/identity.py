"""Who calls, how long they wait, and to which request and trace the work belongs.

Envoy sets the metadata from the verified token and from its own request id, and removes what a client sent under the
same names. Between services the client passes it on.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass

from services.runtime.errors import DomainError, Reason

USER_KEY = "x-chatmesh-user"
TIER_KEY = "x-chatmesh-tier"
RESIDENCY_KEY = "x-chatmesh-residency"
TENANT_KEY = "x-chatmesh-tenant"
REQUEST_ID_KEY = "x-request-id"
DEFAULT_TIER = "free"


@dataclass(frozen=True, slots=True)
class Identity:
    """The user that a call is made for."""

    user_id: str
    tier: str = DEFAULT_TIER
    residency: str = ""
    """Where the user's data must stay, by a name that the models file maps to regions; empty for anywhere."""
    tenant_id: str = ""
    """The organisation that the user belongs to, by which the content policy may differ; empty for none."""


@dataclass(frozen=True, slots=True)
class CallScope:
    """What belongs to the inbound call that is being served."""

    identity: Identity | None = None
    request_id: str = ""
    deadline: float | None = None
    """Monotonic time at which the caller stops waiting; None when it waits for ever."""

    def remaining_s(self) -> float | None:
        """Seconds until the deadline, None without one."""
        return None if self.deadline is None else self.deadline - time.monotonic()


_NO_CALL = CallScope()
_scope: ContextVar[CallScope] = ContextVar("chatmesh_call_scope", default=_NO_CALL)


def current_scope() -> CallScope:
    """The scope of the call that this task serves; an empty one outside of calls."""
    return _scope.get()


def enter_scope(scope: CallScope) -> None:
    """Make `scope` the scope of this task and of the tasks it starts."""
    _scope.set(scope)


def current_identity() -> Identity | None:
    """The caller, or None when the call carries none."""
    return _scope.get().identity


def require_identity() -> Identity:
    """The caller.

    Raises:
        DomainError: UNAUTHENTICATED when the call carries no identity.
    """
    identity = _scope.get().identity
    if identity is None:
        raise DomainError(Reason.UNAUTHENTICATED, "No identity: call through the edge with a bearer token.")
    return identity
