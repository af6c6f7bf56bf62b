"""Energy of a cell by codecarbon's offline tracker: watt-hours and where the figure comes from.

One tracker serves a run; its first start costs about a second, a cell afterwards a few milliseconds. The tracker
measures the machine, so only cells that ran alone get a figure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Reading:
    """Filled when the measured block ends; ``source`` is ``rapl``, ``nvml`` or ``estimate``."""

    wh: float | None = None
    source: str | None = None


class Meter:
    """The run's one tracker."""

    def __init__(self) -> None:
        """Start the tracker; its country only matters for emissions, which are not used."""
        os.environ.setdefault("CODECARBON_LOG_LEVEL", "critical")
        from codecarbon import OfflineEmissionsTracker

        self._tracker: Any = OfflineEmissionsTracker(
            country_iso_code="UKR",
            project_name="mmbench",
            output_methods=[],
            log_level="critical",
            allow_multiple_runs=True,
        )
        self._tasks = 0
        with self.measure():
            pass

    @contextmanager
    def measure(self) -> Iterator[Reading]:
        """Measure the block, whether it ends well or not."""
        reading = Reading()
        self._tasks += 1
        task = f"cell-{self._tasks}"
        self._tracker.start_task(task)
        try:
            yield reading
        finally:
            data = self._tracker.stop_task(task)
            if data is not None:
                reading.wh, reading.source = data.energy_consumed * 1000, self.source

    @property
    def source(self) -> str:
        """The weakest source that contributes: a figure is an estimate if its CPU part is one."""
        cpu = [getattr(part, "_mode", "") for part in self._tracker._hardware if type(part).__name__ == "CPU"]
        if any(mode == "intel_rapl" for mode in cpu):
            return "rapl"
        gpu = any(type(part).__name__ == "GPU" for part in self._tracker._hardware)
        return "nvml" if gpu and not cpu else "estimate"

    def close(self) -> None:
        """Stop the tracker's threads."""
        self._tracker.stop()
