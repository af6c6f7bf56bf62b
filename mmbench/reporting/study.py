"""Studies of a run beside its comparison: what they hold, and which ones a run has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmbench.reporting.figures import Plot
from mmbench.reporting.records import Collection
from mmbench.reporting.tables import Table
from mmbench.running.store import RunFolder


@dataclass(frozen=True)
class Study:
    """Tables, records for JSON and CSV (each names its ``study``), figures, and a line on each figure there is not."""

    tables: tuple[Table, ...] = ()
    records: tuple[dict[str, Any], ...] = ()
    plots: tuple[Plot, ...] = ()
    absent: tuple[str, ...] = ()


NO_STUDY = Study()


def read_studies(folder: RunFolder, collection: Collection) -> Study:
    """All studies that a run's cells and its siblings on disk make up; ``collection`` is of all its methods."""
    from mmbench.reporting.ablation import ablation_study
    from mmbench.reporting.gains import gain_study
    from mmbench.reporting.learning import learning_study
    from mmbench.reporting.stressed import stress_study
    from mmbench.reporting.sweep import sweep_study

    stored = [study(folder) for study in (ablation_study, sweep_study, stress_study, learning_study)]
    parts = [gain_study(collection), *stored]
    return Study(
        *(tuple(item for part in parts for item in getattr(part, name)) for name in Study.__dataclass_fields__)
    )
