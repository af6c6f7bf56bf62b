"""The memory fusion network recomputed in NumPy, step by step, from the weights alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mmbench.plugins import shipped

mfn = shipped("baselines", "mfn")
Array = NDArray[np.float64]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def recompute(w: dict[str, Array], x: Array, hidden: int, size: int) -> Array:
    """One sample (T, N, features) -> [h_T ⊕ u_T]."""
    views = x.shape[1]

    def two(name: str, v: Array) -> Array:
        first = np.maximum(w[f"memory.{name}.0.weight"] @ v + w[f"memory.{name}.0.bias"], 0)
        return w[f"memory.{name}.3.weight"] @ first + w[f"memory.{name}.3.bias"]

    h, c, u = np.zeros((views, hidden)), np.zeros((views, hidden)), np.zeros(size)
    for t in range(len(x)):
        before = c.copy()
        for v in range(views):
            cell = f"views.cells.{v}."
            z = w[cell + "weight_ih"] @ x[t, v] + w[cell + "bias_ih"] + w[cell + "weight_hh"] @ h[v]
            i, f, g, o = np.split(z + w[cell + "bias_hh"], 4)
            c[v] = sigmoid(f) * c[v] + sigmoid(i) * np.tanh(g)
            h[v] = sigmoid(o) * np.tanh(c[v])
        window = np.concatenate([before.ravel(), c.ravel()])
        scores = two("attend", window)
        attended = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum() * window
        joined = np.concatenate([attended, u])
        u = sigmoid(two("retain", joined)) * u + sigmoid(two("admit", joined)) * np.tanh(two("propose", attended))
    return np.concatenate([h.ravel(), u])


@pytest.mark.parametrize("steps", [1, 2, 6])
@pytest.mark.parametrize("views", [1, 3])
def test_equal_to_numpy(steps: int, views: int) -> None:
    torch.manual_seed(steps)
    network = mfn.MemoryFusion(views, 4, 3, 5, 7, 0.4).double().eval()
    x = torch.randn(4, steps, views, 4, dtype=torch.float64)
    found = network(x, torch.ones(4, steps, views, dtype=torch.bool)).detach().numpy()
    weights = {name: value.detach().numpy() for name, value in network.named_parameters()}
    expected = np.stack([recompute(weights, sample, 3, 5) for sample in x.numpy()])
    assert found.shape == (4, network.out_features)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


def test_padding_changes_nothing_and_rows_do_not_meet() -> None:
    torch.manual_seed(0)
    network = mfn.MemoryFusion(2, 4, 3, 5, 7, 0.0).double().eval()
    x, mask = torch.randn(3, 6, 2, 4, dtype=torch.float64), torch.ones(3, 6, 2, dtype=torch.bool)
    mask[:, 4:] = False
    whole = network(x, mask)
    torch.testing.assert_close(network(x[:, :4], mask[:, :4]), whole, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(network(x[[2, 0]], mask[[2, 0]]), whole[[2, 0]], rtol=1e-12, atol=1e-14)
    assert not network(x, torch.zeros_like(mask)).any()


def test_the_fusion_is_the_memory_under_the_mask() -> None:
    torch.manual_seed(0)
    fusion = mfn.build(2, 4, memory=5, dropout=0.0).double().eval()
    views, mask = torch.randn(3, 6, 2, 4, dtype=torch.float64), torch.ones(3, 6, 2, dtype=torch.bool)
    mask[1, :, 0] = False
    assert torch.equal(fusion(views, mask), fusion.fuse(views, mask))
    assert fusion.out_features == 13 and not fusion(views, mask)[1, :4].any()
