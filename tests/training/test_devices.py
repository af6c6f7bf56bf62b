"""Devices: which one is meant, and that networks, losses, strategies and predictions stay on the one they were given.

A second device is pretended, for machines that have none: real numbers on the CPU that claim to lie on ``meta``. Inside
:class:`Elsewhere` an operation on tensors of both devices is refused, as CUDA would refuse it (a single number may come
from either, and so may an index); ``.to`` and ``.cpu`` move.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from mmbench.contracts import Examples, FitContext, Inputs
from mmbench.errors import UsageError
from mmbench.methods import build_model, parse
from mmbench.plugins import Registry
from mmbench.training.devices import describe_device, find_device

DEVICE = "meta"
MOVES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)
INDEXED = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten._index_put_impl_.default)


class Far(torch.Tensor):
    """A tensor of the pretended device; ``near`` holds its numbers."""

    near: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> Far:
        far = torch.Tensor._make_wrapper_subclass(
            cls, near.size(), strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype,
            device=torch.device(DEVICE),
        )  # fmt: skip
        far.near = near
        return far

    def __repr__(self) -> str:
        return f"Far({self.near})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} outside of Elsewhere")


class Elsewhere(TorchDispatchMode):
    """While it is entered, ``meta`` is a device with numbers in it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        asked = None if kwargs.get("device") is None else torch.device(kwargs["device"])
        looked_at = args[:1] if func in INDEXED else args  # an index may lie on the CPU
        given = [t for t in tree_flatten((looked_at, kwargs))[0] if isinstance(t, torch.Tensor)]
        far = [t for t in given if isinstance(t, Far)]
        if func in INDEXED and len(args) > 2:
            given += [args[2]]
        if far and func not in MOVES and any(t.ndim > 0 for t in given if not isinstance(t, Far)):
            raise RuntimeError(f"expected all tensors on one device: {func}")
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        found = func(*tree_map(near, args), **tree_map(near, kwargs))
        if func._schema.is_mutable and not func._schema.name.endswith("out") and isinstance(args[0], Far):
            return args[0]
        there = bool(far) if asked is None else asked.type == DEVICE
        return tree_map(lambda t: Far(t) if there and isinstance(t, torch.Tensor) else t, found)


def near(value: Any) -> Any:
    """A far tensor's numbers; anything else as it is."""
    return value.near if isinstance(value, Far) else value


REGISTRY = Registry()
NOT_HERE = ("equal", "mti")  # mti's losses are not finite on the pretended device; on a GPU they are, as on a CPU
METHODS = [
    *(f"{plugin.name}+equal" for plugin in REGISTRY.list("fusion")),
    *(f"concat+{plugin.name}" for plugin in REGISTRY.list("strategy") if plugin.name not in NOT_HERE),
    "late:mode=weighted+dmtl:layer=heads",
    "only:x",
    "hybrid",
    "hybrid:balance=softmax:memory_update=mfn",
    "xattn:contrastive_weight=0.1",
]


@pytest.fixture(autouse=True)
def _what_no_mode_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fused Adam has no kernel for a pretended device, and ``torch.tensor`` asks no mode where it puts numbers."""
    adam, tensor = torch.optim.Adam, torch.tensor
    monkeypatch.setattr(torch.optim, "Adam", lambda *given, **settings: adam(*given, **{**settings, "fused": False}))
    monkeypatch.setattr(torch, "tensor", lambda data, device=None, **kind: tensor(data, **kind).to(device or "cpu"))


def sequences(examples: Examples) -> Examples:
    """The same rows, the first modality as sequences of three steps."""
    values = dict(examples.inputs.values)
    values["x"] = torch.stack([values["x"], values["x"].flip(1), -values["x"]], dim=1)
    steps = {"x": torch.ones(len(examples), 3, dtype=torch.bool) & examples.inputs.present["x"][:, None]}
    steps["x"][::3, 2] = False
    return Examples(Inputs(values, examples.inputs.present, steps), examples.targets)


def trained(selector: str, small: Any, device: str, make: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    (method,) = parse(selector, REGISTRY, ("x", "y"))
    model = build_model(method, REGISTRY)
    plain = small.context(epochs=2, class_weights="balanced")
    context = FitContext(plain.concepts, plain.seed, plain.settings, device=device)
    history = model.fit(make(small.examples(41)), make(small.examples(20, seed=1)), context)
    return model, history, model.predict(make(small.examples(9, seed=2)).inputs)


@pytest.mark.parametrize("make", [lambda examples: examples, sequences], ids=["vectors", "sequences"])
@pytest.mark.parametrize("selector", METHODS)
def test_a_network_stays_on_the_device_that_it_was_given(selector: str, make: Any, small: Any) -> None:
    _, expected, scores = trained(selector, small, "cpu", make)
    with Elsewhere():
        model, history, found = trained(selector, small, DEVICE, make)
        assert model.device == DEVICE
        for _, network, strategy in model.fitted:
            for tensor in (*network.parameters(), *network.buffers(), *strategy.parameters(), *strategy.buffers()):
                assert isinstance(tensor, Far)
    for name, values in scores.items():
        assert type(found[name]) is np.ndarray
        np.testing.assert_allclose(found[name], values, atol=1e-4)
    if "single" not in selector:
        np.testing.assert_allclose(history["val"], expected["val"], rtol=1e-3)


def test_the_pretended_device_refuses_what_a_real_one_would() -> None:
    """A control: the test above can fail."""
    with Elsewhere():
        far = torch.ones(3).to(DEVICE)
        assert float((far + 1).sum()) == 6 and (far * torch.tensor(2.0)).sum() == 6
        for wrong in (lambda: far + torch.ones(3), lambda: torch.stack([far, torch.ones(3)]), lambda: far.numpy()):
            with pytest.raises((RuntimeError, TypeError)):
                wrong()
        assert type((far + 1).cpu()) is torch.Tensor
        assert isinstance(torch.zeros(2, device=far.device), Far)


def test_which_device_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    for asked, meant in {"cpu": "cpu", "auto": "cuda", "cuda": "cuda", "cuda:0": "cuda:0", "cuda:1": "cuda:1"}.items():
        assert find_device(asked) == meant
    with pytest.raises(UsageError, match="--device cuda:2: torch finds 2 CUDA GPUs here: use --device cpu, or auto"):
        find_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == "cpu"
    with pytest.raises(UsageError, match="--device cuda: torch finds no CUDA GPU here: use"):
        find_device("cuda")
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    with pytest.raises(UsageError, match=r"--device cuda:0: torch .* was built without CUDA: use"):
        find_device("cuda:0")
    for nonsense in ("gpu", "cuda:x", "cuda:-1", "cuda:", "mps", ""):
        with pytest.raises(UsageError, match="unknown device") as caught:
            find_device(nonsense)
        assert "\n" not in str(caught.value)


def test_a_cpu_is_all_that_is_told_of_it() -> None:
    assert describe_device("cpu") == {"device": "cpu"}
