"""Trains the classifier of Moderation. Nothing here runs in the mesh: see docs/moderation-model-card.md."""
