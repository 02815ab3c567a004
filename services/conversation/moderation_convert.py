"""Between moderation's receipts in the contract, in the database's JSON, and in the model."""

from __future__ import annotations

from typing import Any

from chatmesh.type.v1 import moderation_pb2
from services.conversation.moderation_model import ModerationCheck, ModerationMode, ModerationReceipt

_MODES = {
    ModerationMode.CHECKED: moderation_pb2.MODERATION_MODE_CHECKED,
    ModerationMode.OPEN: moderation_pb2.MODERATION_MODE_OPEN,
    ModerationMode.CLOSED: moderation_pb2.MODERATION_MODE_CLOSED,
}
_FROM_MODES = {value: mode for mode, value in _MODES.items()}


def moderation_to_json(receipt: ModerationReceipt) -> dict[str, Any]:
    """As stored."""
    return {
        "policy_version": receipt.policy_version,
        "input": _check_to_json(receipt.input),
        "output": _check_to_json(receipt.output),
    }


def moderation_from_json(value: dict[str, Any] | None) -> ModerationReceipt | None:
    """As stored, by this version or an earlier one, which said nothing."""
    if value is None:
        return None
    return ModerationReceipt(
        value["policy_version"], _check_from_json(value["input"]), _check_from_json(value["output"])
    )


def moderation_to_pb(receipt: ModerationReceipt) -> moderation_pb2.ModerationReceipt:
    """As sent."""
    return moderation_pb2.ModerationReceipt(
        policy_version=receipt.policy_version,
        input=_check_to_pb(receipt.input) if receipt.input else None,
        output=_check_to_pb(receipt.output) if receipt.output else None,
    )


def moderation_from_pb(receipt: moderation_pb2.ModerationReceipt) -> ModerationReceipt:
    """As it was sent."""
    return ModerationReceipt(
        receipt.policy_version,
        _check_from_pb(receipt.input) if receipt.HasField("input") else None,
        _check_from_pb(receipt.output) if receipt.HasField("output") else None,
    )


def _check_to_json(check: ModerationCheck | None) -> dict[str, Any] | None:
    if check is None:
        return None
    return {
        "mode": check.mode.value,
        "action": check.action,
        "categories": list(check.categories),
        "unchecked": list(check.unchecked),
        "event_id": check.event_id,
    }


def _check_from_json(value: dict[str, Any] | None) -> ModerationCheck | None:
    if value is None:
        return None
    return ModerationCheck(
        ModerationMode(value["mode"]),
        value["action"],
        tuple(value["categories"]),
        tuple(value["unchecked"]),
        value["event_id"],
    )


def _check_to_pb(check: ModerationCheck) -> moderation_pb2.ModerationCheck:
    return moderation_pb2.ModerationCheck(
        mode=_MODES[check.mode],
        action=check.action,
        categories=check.categories,
        unchecked=check.unchecked,
        event_id=check.event_id,
    )


def _check_from_pb(check: moderation_pb2.ModerationCheck) -> ModerationCheck:
    return ModerationCheck(
        _FROM_MODES.get(check.mode, ModerationMode.CHECKED),
        check.action,
        tuple(check.categories),
        tuple(check.unchecked),
        check.event_id,
    )
