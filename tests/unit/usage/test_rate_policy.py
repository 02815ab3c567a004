from __future__ import annotations

from services.usage.model import RateLimit, RateQuery, Surface
from services.usage.rate_policy import RatePolicy, surface_of
from services.usage.tiers import RateEntry, TierEntry, Tiers

TIERS = Tiers(
    default="free",
    tiers={
        "free": TierEntry(requests_per_minute=6, burst=2, tokens_per_day=1),
        "plus": TierEntry(requests_per_minute=60, tokens_per_day=1),
    },
    anonymous=RateEntry(requests_per_minute=3),
)
POLICY = RatePolicy(tiers=TIERS)


def test_users_are_counted_by_their_tier() -> None:
    descriptor = {"user": "ann", "tier": "plus", "surface": "native"}
    assert POLICY.query(descriptor, hits=1) == RateQuery("user:plus:ann", RateLimit("plus", 60, 60), 1)


def test_both_surfaces_share_a_counter() -> None:
    keys = {
        query.key
        for surface in ("native", "openai")
        if (query := POLICY.query({"user": "ann", "tier": "plus", "surface": surface}, hits=1)) is not None
    }
    assert keys == {"user:plus:ann"}


def test_unknown_and_missing_tiers_get_the_default() -> None:
    for descriptor in ({"user": "ann", "tier": "gold"}, {"user": "ann"}):
        query = POLICY.query(descriptor, hits=3)
        assert query == RateQuery("user:free:ann", RateLimit("free", 6, 2), 3)


def test_addresses_have_a_limit_of_their_own() -> None:
    query = POLICY.query({"remote_address": "10.1.2.3"}, hits=1)
    assert query == RateQuery("address:10.1.2.3", RateLimit("anonymous", 3, 3), 1)


def test_what_is_not_known_limits_nothing() -> None:
    assert POLICY.query({"path": "/"}, hits=1) is None
    assert POLICY.query({"user": "", "tier": "free"}, hits=1) is None


def test_surface() -> None:
    assert surface_of([{"user": "ann", "surface": "openai"}]) is Surface.OPENAI
    assert surface_of([{"user": "ann", "surface": "native"}]) is Surface.NATIVE
    assert surface_of([{"remote_address": "10.0.0.1"}]) is Surface.NATIVE
