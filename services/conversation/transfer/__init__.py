"""Conversations as files: out of the mesh and into it."""
