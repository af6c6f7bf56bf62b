"""CPU milliseconds a training step of each method, as ratios to ``concat+equal`` measured in the same run.

Generated features: 900 samples, 512 + 256 numbers, ten objectives (2 classes, 8 labels, 3 classes), batch 64, one
thread.
Methods take turns over several rounds and the fastest round counts, since other programs can only slow one down.

    python benchmarks/methods.py [METHOD…]
"""

from __future__ import annotations

import math
import sys
import time

import torch

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


def main() -> None:
    """Print one line a method."""
    torch.set_num_threads(1)
    registry = Registry()
    methods, _ = select(",".join(sys.argv[1:]) or METHODS, registry, tuple(SIZES), ())
    train, val = generated(0), generated(1)
    best: dict[str, float] = {}
    size: dict[str, int] = {}
    for _ in range(ROUNDS):
        for method in methods:
            spent, size[method.name] = milliseconds(method, registry, train, val)
            best[method.name] = min(best.get(method.name, math.inf), spent)
    base = best.get("concat+equal", min(best.values()))
    print(f"{'method':<24}{'ms a step':>10}{'ratio':>8}{'parameters':>12}")
    for name, spent in best.items():
        print(f"{name:<24}{spent:>10.2f}{spent / base:>8.2f}{size[name]:>12,}")


if __name__ == "__main__":
    main()
