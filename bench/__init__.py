"""Measures the mesh. `python -m bench --help` says what."""
