"""A small generated problem: any modalities, all kinds of objective, unlabelled rows, missing inputs, sequences."""

from __future__ import annotations

import torch

from mmbench.contracts import Concept, Examples, Inputs

CONCEPTS = (
    Concept("severity", ("none", "mild", "severe"), background="none"),
    Concept("kinds", ("flood", "fire"), "multilabel"),
    Concept("useful", ("no", "yes"), background="no"),
)
RATING = Concept("rating", ("stars",), "score", bounds=(90.0, 110.0))


def examples(
    rows: int,
    seed: int = 0,
    concepts: tuple[Concept, ...] = CONCEPTS,
    modalities: str = "xy",
    missing: float = 0.2,
    unlabelled: float = 0.2,
) -> Examples:
    """Features with signal, a letter a modality, the m-th of width 5 + m.

    Column 0 of each modality is the row's number over ``rows``, so that a row can be followed.

    Args:
        rows: n.
        seed: of everything that is drawn.
        concepts: some of :data:`CONCEPTS` and :data:`RATING`.
        modalities: their names, a letter each.
        missing: the share of rows without a modality, drawn for each on its own.
        unlabelled: the share of rows without a label, drawn for each concept on its own.
    """
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, 3, generator=draw)
    values, present = {}, {}
    for m, name in enumerate(modalities):
        noise = torch.randn(rows, 4 + m, generator=draw)
        values[name] = torch.cat([torch.zeros(rows, 1), hidden @ torch.randn(3, 4 + m, generator=draw) + noise], 1)
        values[name][:, 0] = torch.arange(rows) / rows
        present[name] = torch.rand(rows, generator=draw) >= missing
        values[name] *= present[name].unsqueeze(1)
    targets = {
        "severity": (hidden[:, 0] > -0.4).long() + (hidden[:, 2] > 0.5).long(),
        "kinds": torch.stack([hidden[:, 0] > 0.3, hidden[:, 1] > 0.5], 1).long(),
        "useful": (hidden[:, 1] > 0).long(),
        "rating": 100 + 3 * hidden[:, 2].double(),
    }
    for target in targets.values():
        lost = torch.rand(rows, generator=draw) < unlabelled
        target[lost] = torch.nan if target.is_floating_point() else -1
    return Examples(Inputs(values, present), {c.name: targets[c.name] for c in concepts})


def as_sequence(inputs: Inputs, modality: str, steps: int, padding: int = 0) -> Inputs:
    """The same with a modality as a sequence of ``steps`` steps, and ``padding`` steps more that are not there."""
    vector, there = inputs.values[modality], inputs.present[modality]
    scales = torch.cat([torch.linspace(0.5, 1.5, steps), torch.zeros(padding)])
    return Inputs(
        {**inputs.values, modality: vector.unsqueeze(1) * scales.view(1, -1, 1)},
        inputs.present,
        {**inputs.steps, modality: there.unsqueeze(1) & (scales > 0)},
    )
