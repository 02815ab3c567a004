"""The other services as the turn sees them: plain calls with plain values."""
