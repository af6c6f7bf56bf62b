"""``mmbench explain``: the cell that is shown is the one that is stored, or nothing is shown."""

from __future__ import annotations

import json

import numpy as np
import pytest

QUICK = ("--epochs", "1", "--no-energy")
PLUGIN = """
NAME = "mine"
KIND = "fusion"
SUMMARY = "a fusion that shows how it weighs its views"
import torch
from torch import nn
from mmbench.contracts import Inside
from mmbench.modules import Fusion, shown
class Mine(Fusion):
    def __init__(self, modalities, width):
        super().__init__()
        self.out_features, self.scores = width, nn.Parameter(torch.zeros(modalities))
    def forward(self, views, present):
        return (views * torch.softmax(self.scores, 0)[:, None]).sum(1) * SCALE
    def look(self, views, present, modalities):
        weights = torch.softmax(self.scores, 0).expand(len(views), -1)
        return {"my weights": Inside("softmax of my scores", shown(weights, present), modalities, shares=True)}
def build(modalities, width): return Mine(modalities, width)
"""


@pytest.fixture
def ran(mmbench, tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN.replace("SCALE", "1.0"))
    done = mmbench(
        "run", "digits", "--method", "mine,concat,igfn:levels=2+dmtl", "--plugin", "mine.py", "--seeds", "2", *QUICK
    )
    assert done.code == 0, done.err
    return mmbench


def rows(text: str, title: str) -> dict[str, list[str]]:
    lines = text[text.index(title) :].splitlines()[1:]
    return {line.split("  ")[0]: line.split()[-3:] for line in lines[1 : lines.index("") if "" in lines else None]}


def test_a_plug_in_that_shows_something_is_looked_into(ran, tmp_path):
    done = ran("explain", "--method", "mine", "--plugin", "mine.py", "--samples", "2")
    assert done.code == 0, done.err
    assert "its predictions are the stored ones, bit for bit, on 719 validation and test rows" in done.err
    found = rows(done.out, "my weights · mine+equal · joint · seed 0")
    weights = [float(x) for x in found["mean over test rows"]]
    assert sum(weights) == pytest.approx(1, abs=2e-3) and len(found) == 4
    assert ran("explain", "--method", "mine", "--plugin", "mine.py", "--samples", "2").out == done.out, "drawn anew"
    (kept,) = tmp_path.glob("results/runs/*/cells/*/*/*/inside.json")
    assert kept.parent.name == "seed-0"
    assert json.loads(kept.read_text())["arrays"]["my weights"]["places"] == ["left", "middle", "right"]
    page = ran("report", "--format", "html").out
    assert "my weights of mine+equal" in page and "Loss weights of igfn:levels=2+dmtl" in page
    ran("report", "--figures", "figures")
    assert (tmp_path / "figures" / "mine+equal" / "inside-my-weights-joint.png").is_file()
    assert list((tmp_path / "figures").rglob("loss-weights-joint.png"))
    ran("run", "digits", "--method", "mine", "--plugin", "mine.py", "--seeds", "2", "--force", *QUICK)
    assert not kept.exists(), "what was seen of a cell goes with it"


def test_page_figures_and_named_samples(ran, tmp_path):
    with np.load(next(tmp_path.glob("results/runs/*/cells/*/igfn*/seed-1/predictions.npz"))) as stored:
        some = [str(s) for s in stored["id"][stored["split"] == "test"][:2]]
        train = sorted({f"{n:04d}" for n in range(1797)} - {str(s) for s in stored["id"]})[0]
        val = str(stored["id"][stored["split"] == "val"][0])
    asked = ("explain", "--method", "igfn:levels=2+dmtl", "--seed", "1")
    done = ran(*asked, "--samples", ",".join(some), "--output", "page.html", "--figures", "figures")
    assert done.code == 0, done.err
    page = (tmp_path / "page.html").read_text()
    assert all(f">{sample}</h3>" in page for sample in some) and "pair weights" in page
    assert list((tmp_path / "figures").rglob("samples-pair-weights-joint.pdf"))
    for sample in (train, val):
        refused = ran(*asked, "--samples", f"{sample},")
        assert refused.code == 2 and "not in the test split" in refused.complaint


def test_other_predictions_than_the_stored_ones_are_an_error(ran, tmp_path):
    (cell,) = tmp_path.glob("results/runs/*/cells/joint/mine*/seed-0")
    with np.load(cell / "predictions.npz") as file:
        stored = dict(file)
    stored["scores/parity"][3] = np.nextafter(stored["scores/parity"][3], 1)
    np.savez(cell / "predictions.npz", **stored)
    asked = ("explain", "--method", "mine", "--plugin", "mine.py", "--output", "page.html")
    done = ran(*asked)
    assert done.code == 3 and not (tmp_path / "page.html").exists()
    assert "does not predict what is stored" in done.complaint and "something that is not recorded" in done.complaint
    record = json.loads((cell / "result.json").read_text())
    (cell / "result.json").write_text(json.dumps(record | {"source": "older", "plugins": {}}))
    assert "mmbench's code and its plug-in changed since" in ran(*asked).complaint


def test_what_cannot_be_looked_into_is_said_in_one_line(ran, tmp_path):
    def complaint(*arguments: str) -> str:
        done = ran("explain", *arguments)
        assert done.code == 2
        return done.complaint

    assert "--method igfn+dmtl" in complaint()
    assert "shows nothing of its inside" in complaint("--method", "concat")
    assert "unknown method of this run 'late+equal'" in complaint("--method", "late")
    assert "sweeps 2 methods" in complaint("--method", "igfn:delta=0.1/0.2")
    assert "unknown seed" in complaint("--method", "concat", "--seed", "7")
    assert "unknown problem" in complaint("--method", "concat", "--problem", "x")
    assert "expected how many" in complaint("--method", "igfn:levels=2+dmtl", "--samples", ",")
    assert "unknown sample 'x'" in complaint("--method", "igfn:levels=2+dmtl", "--samples", "x")


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("0 / 0", "ZeroDivisionError: division by zero"),
        ("print('noise') or {'a': views}", "AttributeError"),
        ("{'a': Inside('', views.numpy())}", r"look gave values of shape (359, 3, 64) for 'a', expected (359,)"),
        ("{'a': Inside('', present.float().numpy(), ('x', 'y'))}", "shape (359, 3) for 'a', expected (359, 2)"),
    ],
)
def test_a_plug_in_that_shows_nonsense_is_one_line(mmbench, tmp_path, shown, said):
    body = PLUGIN.replace("SCALE", "1.0").partition("    def look")[0]
    look = f"    def look(self, views, present, modalities): return {shown}\n"
    (tmp_path / "mine.py").write_text(body + look + PLUGIN.splitlines()[-1])
    mmbench("run", "digits", "--method", "mine", "--plugin", "mine.py", "--seeds", "1", *QUICK)
    done = mmbench("explain", "--method", "mine", "--plugin", "mine.py", "--samples", "2")
    assert done.code == 1 and not done.out
    assert "mine+equal seed 0 cannot be looked into: " in done.complaint and said in done.complaint


def test_weights_that_are_no_numbers_are_not_drawn(mmbench, tmp_path):
    (tmp_path / "odd.py").write_text(
        'import torch\nfrom mmbench.modules import Strategy\nNAME = "odd"\nKIND = "strategy"\nSUMMARY = "odd"\n'
        "class Odd(Strategy):\n    def combine(self, losses, active, gramian): return losses.sum()\n"
        "    def loss_weights(self): return torch.full((3,), torch.nan)\ndef build(objectives): return Odd()\n"
    )
    assert mmbench("run", "digits", "--method", "concat+odd", "--plugin", "odd.py", "--seeds", "1", *QUICK).code == 0
    page = mmbench("report", "--format", "html")
    assert page.code == 0, page.err
    assert "loss weights, one throughout or of one objective: concat+odd" in page.out
