"""What the guide says to write in a policy can be written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from services.moderation.classifier import Classifier
from services.moderation.model import Action
from services.moderation.policy import PACKAGED_POLICY, Policy

GUIDE = Path(__file__).parents[3] / "docs" / "moderation.md"


def test_the_guides_policy_is_one(tmp_path: Path) -> None:
    content: dict[str, Any] = yaml.safe_load(PACKAGED_POLICY.read_text())
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)]
    assert len(blocks) == 4
    for block in blocks:
        content["categories"] |= block.pop("categories", {})
        content |= block
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(content))
    policy = Policy.load(path, points=Classifier.load())

    assert policy.version == "mine-1"
    everybody, school = (policy.for_user(tenant_id=tenant, tier="free") for tenant in ("", "school"))
    assert everybody.input.categories["self-harm"].action is Action.WARN
    assert school.input.categories["self-harm"].action is Action.HOLD
    assert everybody.families == {"persona": Action.WARN}
    # What the guide says of the stream is what is packaged.
    packaged = Policy.load(PACKAGED_POLICY, points=Classifier.load())
    assert everybody.stream == packaged.for_user(tenant_id="", tier="").stream
