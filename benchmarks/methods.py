"""CPU milliseconds a training step of each method, as ratios to ``concat+equal`` measured in the same run.

Generated features: 900 samples, 512 + 256 numbers, ten objectives (2 classes, 8 labels, 3 classes), batch 64, one
thread.
Methods take turns over several rounds and the fastest round counts, since other programs can only slow one down.
With them, ``plain PyTorch``: a loop of the same sizes written without mmbench, so that the harness's own cost shows.

    python benchmarks/methods.py [METHOD…]
"""

from __future__ import annotations

import math
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

from mmbench.config import Training
from mmbench.contracts import Concept, Examples, FitContext, Inputs
from mmbench.methods import Method, build_model, select
from mmbench.plugins import Registry

SAMPLES, BATCH, EPOCHS, ROUNDS = 900, 64, 2, 5
SIZES = {"text": 512, "image": 256}
CONCEPTS = (
    Concept("informative", ("no", "yes")),
    Concept("humanitarian", tuple("abcdefgh"), "multilabel"),
    Concept("damage", ("little", "mild", "severe")),
)
METHODS = (
    "concat+equal,late+equal,tensor+equal,lowrank+equal,graph+equal,igfn+equal,"
    "concat+moo,concat+gradnorm,concat+uncertainty,concat+dmtl,igfn+dmtl,concat+mti,concat+single"
)


def generated(seed: int) -> Examples:
    """Random inputs and labels."""
    generator = torch.Generator().manual_seed(seed)
    values = {name: torch.randn(SAMPLES, size, generator=generator) for name, size in SIZES.items()}
    targets = {
        "informative": torch.randint(2, (SAMPLES,), generator=generator),
        "humanitarian": torch.randint(2, (SAMPLES, 8), generator=generator),
        "damage": torch.randint(3, (SAMPLES,), generator=generator),
    }
    return Examples(Inputs(values, {name: torch.ones(SAMPLES, dtype=torch.bool) for name in SIZES}), targets)


def milliseconds(method: Method, registry: Registry, train: Examples, val: Examples) -> tuple[float, int]:
    """CPU milliseconds a step, and the number of parameters."""
    model = build_model(method, registry)
    context = FitContext(CONCEPTS, 0, Training(batch_size=BATCH, epochs=EPOCHS, patience=EPOCHS))
    started = time.process_time()
    model.fit(train, val, context)
    spent = time.process_time() - started
    return spent * 1000 / (EPOCHS * math.ceil(SAMPLES / BATCH)), model.n_parameters


def plain(train: Examples) -> tuple[float, int]:
    """The same of what ``concat+equal`` is where every row has all labels and modalities; there is no validation."""
    torch.manual_seed(0)
    width, dropout = Training().width, Training().dropout

    def layer(features: int, out: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(features, out), nn.ReLU(), nn.Dropout(dropout))

    encoders = nn.ModuleList(nn.Sequential(nn.LayerNorm(size), layer(size, width)) for size in SIZES.values())
    trunk = layer(width * len(SIZES), width)
    heads = nn.ModuleList(nn.Linear(width, len(concept.labels)) for concept in CONCEPTS)
    network = nn.ModuleList([encoders, trunk, heads]).train()
    adam = torch.optim.Adam(network.parameters(), fused=True)
    values, (first, second, third) = list(train.inputs.values.values()), train.targets.values()
    started = time.process_time()
    for _ in range(EPOCHS):
        for rows in torch.randperm(SAMPLES).split(BATCH):
            views = [encode(value[rows]) for encode, value in zip(encoders, values, strict=True)]
            z = trunk(torch.cat(views, dim=1))
            logits = [head(z) for head in heads]
            total = F.cross_entropy(logits[0], first[rows]) + F.cross_entropy(logits[2], third[rows])
            total = total + F.binary_cross_entropy_with_logits(logits[1], second[rows].float())
            adam.zero_grad()
            total.backward()
            adam.step()
    spent = time.process_time() - started
    return spent * 1000 / (EPOCHS * math.ceil(SAMPLES / BATCH)), sum(p.numel() for p in network.parameters())


def main() -> None:
    """Print one line a method."""
    torch.set_num_threads(1)
    registry = Registry()
    methods, _ = select(",".join(sys.argv[1:]) or METHODS, registry, tuple(SIZES), ())
    train, val = generated(0), generated(1)
    best: dict[str, float] = {}
    size: dict[str, int] = {}
    for _ in range(ROUNDS):
        spent, size["plain PyTorch"] = plain(train)
        best["plain PyTorch"] = min(best.get("plain PyTorch", math.inf), spent)
        for method in methods:
            spent, size[method.name] = milliseconds(method, registry, train, val)
            best[method.name] = min(best.get(method.name, math.inf), spent)
    base = best.get("concat+equal", min(best.values()))
    print(f"{'method':<24}{'ms a step':>10}{'ratio':>8}{'parameters':>12}")
    for name, spent in best.items():
        print(f"{name:<24}{spent:>10.2f}{spent / base:>8.2f}{size[name]:>12,}")


if __name__ == "__main__":
    main()
