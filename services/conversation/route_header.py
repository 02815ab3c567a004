"""The route receipt as a header: one line of ASCII that is never too long to pass."""

from __future__ import annotations

import json
from dataclasses import replace

from services.conversation.route_convert import route_to_json
from services.conversation.route_model import RouteReceipt

ROUTE_KEY = "x-chatmesh-route"
MAX_LENGTH = 3800
"""A peer need not take more than 8 KiB of metadata in all."""


def route_header(route: RouteReceipt) -> str:
    """The receipt as JSON; what was considered last is left out where there is no room for all."""
    while len(text := _text(route)) > MAX_LENGTH:
        if len(route.candidates) >= len(route.models) and route.candidates:
            route = replace(route, candidates=route.candidates[: len(route.candidates) // 2])
        elif route.models:
            route = replace(route, models=route.models[: len(route.models) // 2])
        elif route.experiments:
            route = replace(route, experiments=route.experiments[: len(route.experiments) // 2])
        else:
            # Names of the registry are short; this one is not.
            return json.dumps({"model": route.model[:256]})
    return text


def _text(route: RouteReceipt) -> str:
    return json.dumps(route_to_json(route), separators=(",", ":"))
