from __future__ import annotations

from pathlib import Path

import pytest

from services.runtime.settings import SettingsError
from services.usage.model import RateLimit
from services.usage.tiers import PACKAGED_TIERS, Tiers

GOOD = """
default: free
tiers:
  free: {requests_per_minute: 6, burst: 2, tokens_per_day: 100}
  plus: {requests_per_minute: 60, tokens_per_day: 1000}
anonymous: {requests_per_minute: 3}
"""


def load(tmp_path: Path, text: str) -> Tiers:
    path = tmp_path / "tiers.yaml"
    path.write_text(text)
    return Tiers.load(path)


def test_packaged_tiers() -> None:
    tiers = Tiers.load(PACKAGED_TIERS)
    assert {name: tier.requests_per_minute for name, tier in tiers.tiers.items()} == {
        "free": 60,
        "plus": 600,
        "enterprise": 6000,
    }
    assert tiers.default == "free"


def test_burst_is_a_minute_unless_said(tmp_path: Path) -> None:
    tiers = load(tmp_path, GOOD)
    assert tiers.tiers["free"].rate("free") == RateLimit("free", 6, 2)
    assert tiers.tiers["plus"].rate("plus") == RateLimit("plus", 60, 60)


def test_unknown_tier_is_the_default(tmp_path: Path) -> None:
    tiers = load(tmp_path, GOOD)
    assert tiers.resolve("plus") == "plus"
    assert tiers.resolve("gold") == "free"
    assert tiers.resolve("") == "free"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("default: free", "default: gold", "the default tier 'gold' is not one of free, plus"),
        ("requests_per_minute: 60", "requests_per_minute: 0", "tiers.plus.requests_per_minute"),
        ("tokens_per_day: 100}", "tokens: 100}", "tiers.free.tokens_per_day: Field required"),
        ("plus:", "free:", "stands here twice"),
        ("anonymous:", "unknown:", "anonymous: Field required"),
    ],
)
def test_refuses_a_bad_file(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert "tiers file" in str(caught.value)
    assert message in str(caught.value)
