"""The `chatmesh` command: the whole mesh on one machine, and a terminal client of any mesh."""
