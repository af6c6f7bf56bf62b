"""The page of a cell that was looked into: text and pictures where they belong, escaped, and nothing asked for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmbench.contracts import Concept, Dataset, Inside
from mmbench.features import TABLE
from mmbench.features.steps import Patches
from mmbench.reporting import samples
from mmbench.reporting.drawing_inside import widened
from mmbench.reporting.explained import average_plots, to_page
from mmbench.reporting.figures import save
from mmbench.reporting.samples import sample_plots, see_samples, strongest, weights_tables
from mmbench.running.inside import Explained, summarise
from mmbench.running.prepare import Part
from mmbench.running.store import Cell

HOSTILE = "<script>alert(1)</script>&\"'"
TEXT = f"flood in {HOSTILE} town"
PIECES = [" [CLS]", "flood", " in", f" {HOSTILE}", " town", " [SEP]"]
CONCEPTS = (
    Concept("kind", ("a", HOSTILE, "c")),
    Concept("tags", ("x", "y"), "multilabel"),
    Concept("mood", ("sentiment",), "score"),
)
INFO = {
    "task": {"name": "t", "title": HOSTILE, "citation": HOSTILE, "licence": HOSTILE, "generated": False},
    "protocol": {"name": "p"},
    "config": {"encoders": {"text": "hf:somewhere:pool=none"}},
}
ROWS = 3


@pytest.fixture
def explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Explained:
    """Three test rows with text of six tokens and a picture of nine patches; the last one has no picture."""
    monkeypatch.setitem(TABLE["hf"].parameters, "pool", (str, "auto"))
    draw = np.random.default_rng(0)
    Image.fromarray(draw.integers(0, 256, (90, 60, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(samples, "tokens", lambda checkpoint, text, count: PIECES[:count])
    whole = np.asarray(Image.open(tmp_path / "a.png").resize((60, 60)))
    monkeypatch.setattr(samples, "patches", lambda checkpoint, path, count: Patches(whole, 3, 3))

    def shares(*shape: int) -> Any:
        values = draw.random((ROWS, *shape)).astype(np.float32)
        return values / values.sum(-1, keepdims=True)

    gates, over_text, over_image = shares(2), shares(2, 8), shares(1, 9)
    over_text[:, :, 6:] = np.nan
    gates[2] = [1, np.nan]
    over_image[2] = np.nan
    ids = np.array([f"row {n} {HOSTILE}" for n in range(4)])
    steps = {"text": np.arange(8) < np.full((ROWS, 1), 6), "image": np.ones((ROWS, 9), dtype=bool)}
    steps["image"][2] = False
    test = Part(
        ids[1:], ids[1:], {}, {"text": np.ones(ROWS, bool), "image": np.array([True, True, False])}, steps,
        {"kind": np.array([0, 1, -1]), "tags": np.array([[1, 0], [0, 0], [-1, -1]]),
         "mood": np.array([1.25, 0, np.nan])},
    )  # fmt: skip
    dataset = Dataset(
        ids, ids, {"text": [TEXT] * 4, "image": [tmp_path / "a.png"] * 3 + [None]}, CONCEPTS, {}, (), "f", HOSTILE
    )
    return Explained(
        Cell("joint", f"xattn{HOSTILE}", 0), dataset, CONCEPTS, test,
        {"kind": np.array([[0.2, 0.7, 0.1]] * 3), "tags": np.array([[0.9, 0.1]] * 3), "mood": np.full((3, 1), -0.5)},
        {
            "modality weights": Inside(f"weight {HOSTILE}", gates, ("text", "image"), shares=True),
            "attention image → text": Inside("where", over_text, ("block 1", "block 2"), ("text",), True),
            "attention text → image": Inside("where", over_image, ("block 1",), ("image",), True),
            "memory": Inside("over time", draw.random((ROWS, 4)).astype(np.float32), (), ("text", "image")),
        },
        {"text": ("hf:somewhere:pool=none", "text"), "image": ("hf:somewhere:pool=none", "image")}, 7, [0, 2],
    )  # fmt: skip


def test_a_sample_has_its_decisions_inputs_and_strips(explained: Explained) -> None:
    first, last = see_samples(explained)
    said = (f"{HOSTILE} 0.70", "x 0.90", "-0.50")
    names = ("kind", "tags", "mood")
    assert first.decisions == tuple(zip(names, ("a", "x", "1.25"), said, strict=True))
    assert last.decisions == tuple(zip(names, ["no label"] * 3, said, strict=True))
    assert [name for name, *_ in first.inputs] == ["text", "image"] and [name for name, *_ in last.inputs] == ["text"]
    titles = ["attention image → text, block 1", "attention image → text, block 2"]
    assert [s.name for s in first.strips] == [*titles, "attention text → image", "memory"]
    assert [s.name for s in last.strips] == [*titles, "memory"]
    assert first.strips[0].tokens == tuple(PIECES) and len(first.strips[0].weights) == 6
    assert first.strips[3].lines == ("memory",) and first.strips[3].weights.shape == (1, 4)


def test_the_strongest_steps_are_named(explained: Explained) -> None:
    strip = see_samples(explained)[0].strips[0]
    best = int(strip.weights.argmax())
    assert strongest(strip).startswith(f"{PIECES[best].strip()} {strip.weights[best]:.3f}; ")
    grid = see_samples(explained)[0].strips[2]
    row, column = np.unravel_index(grid.weights.argmax(), (3, 3))
    assert strongest(grid).startswith(f"row {row + 1}, column {column + 1} ")


def test_the_page_holds_the_samples_escaped_and_asks_for_nothing(explained: Explained) -> None:
    page = to_page(explained, summarise(explained), see_samples(explained), INFO)
    assert "<script>alert" not in page
    assert page.count("<script") == 1
    links = re.findall(r"""(?:src|href|action)=["'](?!#)([^"']{0,24})""", page)
    assert len(links) == 2 and all(link.startswith("data:image/jpeg;base64,") for link in links)
    assert "default-src 'none'" in page and "img-src data:" in page
    assert "url(http" not in page and "@import" not in page
    words = re.sub(r"<[^>]+>", "", page[page.index('<p class="tokens"') :].split("</p>")[0])
    assert words == "".join(PIECES).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace(
        '"', "&#34;"
    ).replace("'", "&#39;")
    assert page.count("<rect") >= 9 and "7 validation and test rows, bit for bit" in page
    assert "its licence says who may see it" in page


def test_without_samples_the_page_has_averages_alone(explained: Explained) -> None:
    page = to_page(explained, summarise(explained), [], INFO)
    assert "flood" not in page and "data:image" not in page and "On average" in page


def test_what_is_kept_and_printed_has_no_content(explained: Explained) -> None:
    summary = summarise(explained)
    gates = summary["arrays"]["modality weights"]
    assert gates["rows"] == [3, 2] and gates["places"] == ["text", "image"]
    values = explained.inside["modality weights"].values
    np.testing.assert_allclose(gates["mean"], np.nanmean(values, axis=0), rtol=1e-4)
    np.testing.assert_allclose(gates["quantiles"][2], np.nanmedian(values, axis=0), rtol=1e-4)
    assert summary["arrays"]["attention image → text"]["mean"][0][6:] == [None, None]
    assert "flood" not in str(summary) + str(weights_tables(explained))
    (table,) = weights_tables(explained)
    assert [row[0].text for row in table.rows] == ["mean over test rows", *explained.test.ids[[0, 2]]]
    assert table.rows[2][2].text == "–"


def test_every_figure_is_drawn(explained: Explained, tmp_path: Path) -> None:
    plots = [*average_plots(explained, summarise(explained)), *sample_plots(explained, see_samples(explained))]
    assert len(plots) == 4 + 1 + 4 + 3
    list(save(plots, tmp_path / "figures"))
    made = list((tmp_path / "figures").rglob("*.png"))
    assert len(made) == len(plots)
    assert all(np.asarray(Image.open(path).convert("L")).std() > 1 for path in made)


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert samples.shown_input("image", tmp_path / "broken.png") == ("file", "broken.png")
    assert samples.shown_input("video", tmp_path / "clip.mp4") == ("file", "clip.mp4")
    assert samples.shown_input("vector", np.zeros(3)) == ("", "")


def test_an_axis_of_weights_that_hardly_differ_is_widened_around_them() -> None:
    assert widened((0.497, 0.503)) == pytest.approx((0.49, 0.51))
    assert widened((0.2, 0.7)) == (0.2, 0.7)
