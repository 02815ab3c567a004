"""Conversation: owns conversations and messages, and runs a turn from start to end."""
