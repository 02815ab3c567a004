"""Which category of ours a label of a set stands for. What is not here teaches nothing about categories."""

from __future__ import annotations

from collections.abc import Mapping

_SETS: Mapping[str, Mapping[str, str]] = {
    "advbench": {"illicit": "illicit"},
    "malicious_instruct": {"illicit": "illicit"},
    "ailuminate_demo": {
        "hte": "hate",
        "iwp": "illicit",
        "ncr": "illicit",
        "prv": "illicit",
        "src": "sexual",
        "ssh": "self-harm",
        "sxc_prn": "sexual",
        "vcr": "violence",
    },
    "catqa": {
        "Adult Content": "sexual",
        "Fraud/Deception": "illicit",
        "Illegal Activity": "illicit",
        "Malware Viruses": "illicit",
        "Privacy Violation Activity": "illicit",
        "Economic Harm": "illicit",
        "Racial or ethnic hate": "hate",
        "Religious intolerance": "hate",
        "Gender-based violence": "violence",
        "Cyberbullying": "harassment",
        "Assault and battery": "violence",
        "Terrorism and extremism": "violence",
        "Self-harm": "self-harm",
        "Weapon": "violence",
        "Weapon making": "violence",
        "Doxxing": "harassment",
    },
    "davidson": {"hate": "hate"},
    "harmbench": {
        "chemical_biological": "illicit",
        "cybercrime_intrusion": "illicit",
        "harassment_bullying": "harassment",
        "illegal": "illicit",
    },
    "hatecheck": {"hate": "hate"},
    "openai_moderation": {
        "harassment": "harassment",
        "hate": "hate",
        "hate_threat": "hate",
        "self_harm": "self-harm",
        "sexual": "sexual",
        "violence": "violence",
        "violence_graphic": "violence",
    },
    "wiki_toxicity": {"toxic": "harassment"},
    "xstest": {
        "contrast_discr": "hate",
        "contrast_privacy": "illicit",
    },
}

_OURS = {"hate", "harassment", "self-harm", "sexual", "violence", "illicit"}


def category_of(name: str, label: str) -> str | None:
    """The category that `label` of the set `name` stands for."""
    if name.startswith("lookalike_"):
        return label if label in _OURS else None
    return _SETS.get(name, {}).get(label)
