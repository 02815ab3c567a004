"""Usage: tiers, request rates, token quotas, and what was used."""
