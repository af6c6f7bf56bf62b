"""Facets of a run: written with it, read back, and only of test rows."""

import json

import numpy as np
import pytest

from mmbench.running.store import RunFolder


def test_a_run_tells_the_event_of_each_test_row(tmp_path, monkeypatch):
    from mmbench.cli.app import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["run", "crisismmd", "--method", "majority", "--seeds", "1", "--no-energy"])
    assert ended.value.code == 0
    (folder,) = (RunFolder(path) for path in (tmp_path / "results" / "runs").iterdir())
    (path,) = folder.path.glob("cells/*/majority/seed-0/predictions.npz")
    with np.load(path) as stored:
        tested = set(stored["id"][stored["split"] == "test"].tolist())
    events = folder.facets()["event"]
    assert set(events) == tested
    assert len(set(events.values())) == 5
    assert json.loads((folder.path / "facets.json").read_text()) == folder.facets()


def test_a_run_without_facets_has_none(tmp_path):
    assert RunFolder(tmp_path).facets() == {}
