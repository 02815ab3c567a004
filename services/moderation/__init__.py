"""Moderation: what may go in and out, decided while it streams."""
