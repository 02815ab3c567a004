"""How long to gather before the next write, from how busy this process is.

An idle process sends everything at once. A busy one pays per message and not per token, so waiting a few milliseconds
for what comes next cuts its work, and with it the queue: waiting makes it faster. The wait never exceeds what a reader
could notice.
"""

from __future__ import annotations

import asyncio
import time

MAX_LINGER_S = 0.04
BUSY_FROM = 0.35
"""Share of one core above which gathering begins."""
BUSY_FULL = 0.85
"""Share of one core at which gathering is at its longest."""
SAMPLE_S = 0.1


def linger_for(utilisation: float) -> float:
    """Seconds to gather at a share of one core between 0 and 1: none when idle, growing linearly with load."""
    share = (utilisation - BUSY_FROM) / (BUSY_FULL - BUSY_FROM)
    return MAX_LINGER_S * min(1.0, max(0.0, share))


class Pacer:
    """Watches the CPU time of this process and says how long to gather. Run `watch` as a task."""

    def __init__(self) -> None:
        self.linger_s = 0.0
        """Seconds to wait before the next write; 0 means write at once."""

    async def watch(self) -> None:
        """Measure for ever."""
        utilisation = 0.0
        cpu, wall = time.process_time(), time.monotonic()
        while True:
            await asyncio.sleep(SAMPLE_S)
            cpu_now, wall_now = time.process_time(), time.monotonic()
            latest = min(1.0, (cpu_now - cpu) / max(wall_now - wall, 1e-6))
            cpu, wall = cpu_now, wall_now
            # Quick to react to load, slow to forget it, so that the wait does not flutter.
            utilisation = max(latest, 0.8 * utilisation + 0.2 * latest)
            self.linger_s = linger_for(utilisation)
