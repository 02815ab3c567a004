"""Patterns of the policy, and the linear search for them in a text that may go on."""
