"""The training loop against a plain loop, and what it promises: best epoch, early stopping, seeds, bits."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from mmbench.contracts import Examples, Inputs
from mmbench.methods import build_fusion, build_strategy, parse
from mmbench.modules import Fusion, LinearHeads, Strategy
from mmbench.plugins import Registry
from mmbench.training.loop import DivergedError, _gramian, train_network
from mmbench.training.losses import Measure, list_objectives, objective_losses
from mmbench.training.network import Network, predict_logits
from mmbench.training.optimiser import common_optimiser

REGISTRY = Registry()


def network_of(selector: str, small, dropout: float = 0.0) -> tuple[Network, Strategy, tuple]:
    train = small.examples(41)
    objectives = list_objectives(small.concepts, train.targets, "concept")
    (method,) = parse(selector, REGISTRY, ("x", "y"))
    torch.manual_seed(3)
    strategy = build_strategy(method, REGISTRY, objectives)
    sizes = {name: value.shape[1] for name, value in train.inputs.values.items()}
    fusion = build_fusion(method, REGISTRY, 2, 6)
    return Network(sizes, fusion, strategy.heads, small.concepts, 6, dropout), strategy, objectives


def train(selector: str, small, rows: int = 41, dropout: float = 0.0, seed: int = 0, **settings):
    network, strategy, objectives = network_of(selector, small, dropout)
    context = small.context(seed, **settings)
    history = train_network(network, strategy, objectives, small.examples(rows), small.examples(20, seed=1), context)
    return network, strategy, history


def same_bits(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


def follow(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The rows of every training batch, read off the column that numbers them."""
    batches: list[list[int]] = []
    forward = Network.forward

    def spied(self: Network, inputs: Inputs):
        if self.training:
            batches.append((inputs.values["x"][:, 0] * 41).round().int().tolist())
        return forward(self, inputs)

    monkeypatch.setattr(Network, "forward", spied)
    return batches


# --- the same steps as a plain loop ------


def test_training_is_adam_on_the_sum_of_the_losses(small, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = follow(monkeypatch)
    full = small.examples(41, missing=0)
    network, strategy, objectives = network_of("concat+equal", small)
    plain = copy.deepcopy(network)
    val = small.examples(20, seed=1)
    history = train_network(network, strategy, objectives, full, val, small.context(epochs=3, learning_rate=0.003))
    assert history["best_epoch"] == 3, "the comparison needs the last epoch to be the best"
    optimiser = torch.optim.Adam(plain.parameters(), lr=0.003)
    for rows in [torch.tensor(batch) for batch in batches if batch]:
        x = torch.stack([e(full.inputs.values[m][rows]) for m, e in zip("xy", plain.encoders, strict=True)], 1).flatten(
            1
        )
        z = plain.trunks[0](x)
        by_concept = {c.name: layer(z) for c, layer in zip(small.concepts, plain.heads[0].layers, strict=True)}
        loss = sum(
            functional.cross_entropy(by_concept[name], full.targets[name][rows], ignore_index=-1)
            for name in ("severity", "useful")
        )
        known = full.targets["kinds"][rows][:, 0] >= 0
        for k in range(2):
            loss = loss + functional.binary_cross_entropy_with_logits(
                by_concept["kinds"][known, k], full.targets["kinds"][rows][known, k].float()
            )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("selector", ["concat+equal", "concat+moo", "late+gradnorm", "igfn+mti", "graph+dmtl"])
def test_every_method_sees_the_same_batches(selector: str, small, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = follow(monkeypatch)
    train("concat+equal", small, dropout=0.3)
    reference = [sorted(b) for b in batches]
    batches.clear()
    train(selector, small, dropout=0.3)
    assert [sorted(b) for b in batches] == reference


def test_an_epoch_is_every_row_once_in_a_new_order(small, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = follow(monkeypatch)
    network, strategy, objectives = network_of("concat+equal", small)
    full = small.examples(40, missing=0)
    full.inputs.values["x"][:, 0] = torch.arange(40) / 41
    for seed in (0, 1):
        train_network(network, strategy, objectives, full, full, small.context(seed))
    epochs = [[row for batch in batches[k : k + 3] for row in batch] for k in range(0, 12, 3)]
    assert [len(batch) for batch in batches] == [16, 16, 8] * 4
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_last_batch_of_one_is_dropped(small, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = follow(monkeypatch)
    train("graph+equal", small, rows=33)
    assert [len(batch) for batch in batches] == [16, 16] * 2
    batches.clear()
    network, _, history = train("graph+dmtl", small, rows=1)
    assert batches == []
    assert history["train"] == [[None] * 4] * 2
    assert same_bits(network, network_of("graph+dmtl", small)[0])


# --- seeds and bits ------


@pytest.mark.parametrize("selector", ["concat+equal", "igfn+dmtl", "late:mode=weighted+moo", "concat+uncertainty"])
def test_same_seed_same_bits(selector: str, small) -> None:
    one, _, history = train(selector, small, dropout=0.3)
    torch.rand(7)
    torch.manual_seed(99)
    two, _, again = train(selector, small, dropout=0.3)
    other, _, _ = train(selector, small, dropout=0.3, seed=1)
    assert same_bits(one, two) and history == again
    assert not same_bits(one, other)


def test_dropout_does_not_depend_on_what_was_drawn_before(small) -> None:
    trained = []
    for draws in (0, 5):
        network, strategy, objectives = network_of("concat+equal", small, dropout=0.5)
        torch.rand(draws)
        train_network(network, strategy, objectives, small.examples(41), small.examples(20), small.context())
        trained.append(network)
    assert same_bits(*trained)


@pytest.mark.parametrize("fusion", ["concat", "igfn"])
def test_dmtl_without_its_own_parts_trains_as_gradnorm(fusion: str, small) -> None:
    bare = f"{fusion}+dmtl:beta=0:class_ratio=off:rebalance=off"
    one, _, history = train(bare, small, epochs=4)
    two, _, other = train(f"{fusion}+gradnorm:a=1", small, epochs=4)
    assert same_bits(one, two) and history == other
    three, _, _ = train(f"{fusion}+dmtl", small, epochs=4)
    assert not same_bits(one, three)


def test_dmtl_weights_in_training_follow_its_equations(small, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the losses and the gradient norms of each step, taken here with autograd on the trunk's weight."""
    network, strategy, objectives = network_of("concat+dmtl", small)
    steps: list[tuple[list[int], torch.Tensor, torch.Tensor]] = []
    combine = strategy.combine

    def spied(losses, active, gramian):
        weight = network.trunks[0][0].weight
        norms = [torch.autograd.grad(loss, weight, retain_graph=True)[0].norm().item() for loss in losses]
        steps.append((active.tolist(), losses.detach().double(), torch.tensor(norms, dtype=torch.float64)))
        return combine(losses, active, gramian)

    monkeypatch.setattr(strategy, "combine", spied)
    history = train_network(
        network, strategy, objectives, small.examples(41), small.examples(20, seed=1), small.context(epochs=3)
    )
    scale = [o.n_labelled / o.n_positive for o in objectives]
    scale = [s / (sum(scale) / 4) for s in scale]
    w, first = [1.0] * 4, None
    for epoch in range(3):
        losses_of_epoch = []
        for active, losses, norms in steps[3 * epoch : 3 * epoch + 3]:
            assert active == [0, 1, 2, 3]
            losses_of_epoch.append(losses)
            first = losses if first is None else first
            g = [w[f] * norms[f].item() for f in range(4)]
            relative = [(losses[f] / first[f]).item() for f in range(4)]
            target = [sum(g) / 4 * r / (sum(relative) / 4) for r in relative]
            signs = [(a > b) - (a < b) for a, b in zip(g, target, strict=True)]
            w = [max(w[f] - 0.025 * scale[f] * norms[f].item() * signs[f], 1e-3) for f in range(4)]
            w = [4 * v / sum(w) for v in w]
        assert history["weights"][epoch] == pytest.approx(w, rel=1e-5)
        mean = torch.stack(losses_of_epoch).mean(0).tolist()
        assert history["train"][epoch] == pytest.approx(mean)
        ratio = [min(max(mean) / m, 10) for m in mean]
        w = [4 * r / sum(ratio) for r in ratio]


# --- early stopping ------


class Recorder:
    """The network's state after every epoch."""

    def __init__(self) -> None:
        self.states: list[dict] = []
        self.network: Network | None = None

    def __call__(self, epoch: int, of: int, loss: float) -> None:
        assert self.network is not None
        self.states.append(copy.deepcopy(self.network.state_dict()))


@pytest.mark.parametrize("selector", ["graph+equal", "concat+gradnorm", "concat+mti", "late:mode=weighted+equal"])
def test_best_epoch_is_restored_and_training_stops_after_patience(selector: str, small) -> None:
    network, strategy, objectives = network_of(selector, small)
    recorder = Recorder()
    recorder.network = network
    context = small.context(epochs=60, patience=3, learning_rate=0.1, report=recorder)
    train_part, val = small.examples(30), small.examples(20, seed=1)
    history = train_network(network, strategy, objectives, train_part, val, context)
    curve = history["val"]
    assert history["epochs"] == len(curve) == len(recorder.states) == len(history["train"]) < 60
    assert history["best_epoch"] == 1 + curve.index(min(curve))
    assert history["epochs"] == history["best_epoch"] + 3
    best = recorder.states[history["best_epoch"] - 1]
    assert all(torch.equal(value, best[name]) for name, value in network.state_dict().items())
    # the curve is the plain sum of the objectives' mean losses, whatever weights the strategy has
    for state, expected in zip(recorder.states, curve, strict=True):
        network.load_state_dict(state)
        logits = predict_logits(network, val.inputs)
        total = sum(
            functional.cross_entropy(logits[name], val.targets[name], ignore_index=-1)
            for name in ("severity", "useful")
        )
        known = val.targets["kinds"][:, 0] >= 0
        for k in range(2):
            total = total + functional.binary_cross_entropy_with_logits(
                logits["kinds"][known, k], val.targets["kinds"][known, k].float()
            )
        assert total.item() == pytest.approx(expected, rel=1e-4)


def test_an_improvement_below_min_delta_does_not_count(small) -> None:
    _, _, history = train("concat+equal", small, epochs=30, patience=2, min_delta=100.0)
    assert (history["best_epoch"], history["epochs"]) == (1, 3)


def test_validation_data_does_not_train(small) -> None:
    """With one epoch there is nothing to choose, so other validation data leaves the bits as they are."""
    states = []
    for seed in (1, 5):
        network, strategy, objectives = network_of("concat+dmtl", small)
        context = small.context(epochs=1)
        train_network(network, strategy, objectives, small.examples(41), small.examples(20, seed=seed), context)
        states.append(network)
    assert same_bits(*states)


def test_history_of_weights(small) -> None:
    assert train("concat+equal", small)[2]["weights"] == []
    for selector, total in (("concat+moo", 1.0), ("concat+gradnorm", 4.0), ("concat+dmtl", 4.0)):
        weights = train(selector, small)[2]["weights"]
        assert len(weights) == 2
        assert all(sum(w) == pytest.approx(total) and len(w) == 4 for w in weights)


@pytest.mark.parametrize("where", ["features", "rate", "validation"])
def test_what_is_not_a_number_is_a_named_error(where: str, small) -> None:
    network, strategy, objectives = network_of("concat+equal", small)
    parts = [small.examples(41, missing=0), small.examples(20, seed=1, missing=0)]
    if where != "rate":
        parts[where == "validation"].inputs.values["y"][3, 1] = torch.nan
    context = small.context(epochs=5, learning_rate=1e30 if where == "rate" else 0.01)
    with pytest.raises(DivergedError, match=r"not finite in epoch \d+: lower training.learning_rate"):
        train_network(network, strategy, objectives, *parts, context)


# --- losses of branches, Gramians ------


@pytest.mark.parametrize("selector", ["concat+moo", "late+moo", "concat+mti", "graph+moo"])
@pytest.mark.parametrize("of", ["features", "trunk", "heads"])
def test_gramian_is_that_of_separate_gradients(selector: str, of: str, small) -> None:
    network, _, objectives = network_of(selector, small, dropout=0.3)
    batch = small.examples(12)
    output = network(batch.inputs)
    losses, active = network.losses(output, batch, Measure(objectives))
    assert active.tolist() == [0, 1, 2, 3]
    wanted = {
        "features": [output.z],
        "trunk": [trunk[0].weight for trunk in network.trunks],
        "heads": list(network.heads.parameters()),
    }[of]
    rows = []
    for loss in losses:
        grads = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
        rows.append(
            torch.cat(
                [
                    torch.zeros_like(w).flatten() if g is None else g.flatten()
                    for g, w in zip(grads, wanted, strict=True)
                ]
            )
        )
    jacobian = torch.stack(rows).double()
    gramian = _gramian(network, output, losses, of)
    assert gramian is not None and gramian.dtype == torch.float64 and not gramian.requires_grad
    torch.testing.assert_close(gramian, jacobian @ jacobian.T, rtol=1e-3, atol=1e-6)
    assert _gramian(network, output, losses, "none") is None
    losses.sum().backward()  # the graph is still there for the step


def test_equal_weights_give_the_sum_of_the_objectives_gradients(small) -> None:
    network, strategy, objectives = network_of("concat+equal", small)
    batch = small.examples(12)
    losses, active = network.losses(network(batch.inputs), batch, Measure(objectives))
    parameters = list(network.parameters())
    each = [
        torch.autograd.grad(x, parameters, retain_graph=True, materialize_grads=True, allow_unused=True) for x in losses
    ]
    total = torch.autograd.grad(strategy.combine(losses, active, None), parameters)
    for k, gradient in enumerate(total):
        torch.testing.assert_close(gradient, sum(grads[k] for grads in each))


def test_deep_supervision_adds_every_prediction(small) -> None:
    network, _, objectives = network_of("concat+mti", small)
    batch = small.examples(12)
    output = network(batch.inputs)
    losses, _ = network.losses(output, batch, Measure(objectives))
    assert len(output.branches[0]) == 5
    each = [objective_losses(prediction, batch.targets, objectives)[0] for prediction in output.branches[0]]
    torch.testing.assert_close(losses, torch.stack(each).sum(0))
    assert (output.logits["severity"] == output.branches[0][0]["severity"]).all()


def test_branches_are_averaged_over_those_that_have_a_row(small) -> None:
    network, _, objectives = network_of("late+equal", small)
    batch = small.examples(12, missing=0.4)
    output = network(batch.inputs)
    losses, active = network.losses(output, batch, Measure(objectives))
    each = []
    for branch, name in zip(output.branches, "xy", strict=True):
        here = batch.inputs.present[name]
        part = {c: t[here] for c, t in batch.targets.items()}
        each.append(objective_losses({c: v[here] for c, v in branch[0].items()}, part, objectives)[0])
    assert active.tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(losses, (each[0] + each[1]) / 2)
    batch.inputs.present["y"][:] = False
    losses, _ = network.losses(network(batch.inputs), batch, Measure(objectives))
    torch.testing.assert_close(losses, each[0])
    batch.inputs.present["x"][:] = False
    losses, active = network.losses(network(batch.inputs), batch, Measure(objectives))
    assert losses.shape == active.shape == (0,)


@pytest.mark.parametrize("mode", ["mean_prob", "mean_logit", "weighted"])
def test_a_late_branch_is_trained_on_its_own_modality_alone(mode: str, small) -> None:
    trained = []
    for factor in (1.0, -3.0):
        network, strategy, objectives = network_of(f"late:mode={mode}", small, dropout=0.3)
        part = small.examples(41)
        part.inputs.values["y"] *= factor
        part.inputs.values["y"] += factor * part.inputs.present["y"].unsqueeze(1)
        train_network(network, strategy, objectives, part, small.examples(20, seed=1), small.context(epochs=1))
        trained.append(network)
    assert same_bits(trained[0].encoders[0], trained[1].encoders[0])
    assert same_bits(trained[0].trunks[0], trained[1].trunks[0])
    assert same_bits(trained[0].heads[0], trained[1].heads[0])
    assert not same_bits(trained[0].encoders[1], trained[1].encoders[1])


class Halves(Fusion):
    """As many branches as asked for, each the mean of the views."""

    def __init__(self, branches: int, shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.out_features, self.branches, self.shape = 6, branches, shape

    def forward(self, views: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        mean = views.mean(1)
        if self.shape is not None:
            return mean.reshape(self.shape)
        return torch.stack([mean] * self.branches, dim=1)

    def mix(self, logits: torch.Tensor, present: torch.Tensor, kind: str) -> torch.Tensor:
        return logits.mean(1)


def test_branches_that_are_not_one_a_modality_see_every_row(small) -> None:
    objectives = list_objectives(small.concepts, small.examples(21).targets, "concept")
    torch.manual_seed(0)
    network = Network({"x": 5, "y": 6}, Halves(3), LinearHeads, small.concepts, 6, 0.0)
    batch = small.examples(21, missing=0.5)
    measure = Measure(objectives)
    output = network(batch.inputs)
    found, active = network.losses(output, batch, measure)
    alone = [measure(branch[0], batch.targets) for branch in output.branches]
    torch.testing.assert_close(found, torch.stack([losses for losses, _ in alone]).mean(0))
    assert all(torch.equal(active, places) for _, places in alone)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((-1, 1, 6), r"\(21, 1, 6\), expected \(21, 6\)"), ((-1, 3), r"\(42, 3\), expected \(21, 6\)")],
)
def test_a_fusion_of_another_shape_is_told(shape: tuple[int, ...], expected: str, small) -> None:
    network = Network({"x": 5, "y": 6}, Halves(1, shape), LinearHeads, small.concepts, 6, 0.0)
    with pytest.raises(ValueError, match=f"the fusion returned shape {expected}"):
        network(small.examples(21).inputs)


def test_several_branches_need_a_mix(small) -> None:
    fusion = Halves(2)
    fusion.mix = partial(Fusion.mix, fusion)  # type: ignore[method-assign]
    network = Network({"x": 5, "y": 6}, fusion, LinearHeads, small.concepts, 6, 0.0)
    with pytest.raises(NotImplementedError, match="a fusion of 2 branches defines mix"):
        network(small.examples(21).inputs)


def test_a_learned_mixture_leaves_the_branches_as_they_would_be(small) -> None:
    plain, _, _ = train("late", small, epochs=1)
    mixed, _, _ = train("late:mode=weighted", small, epochs=1)
    theirs = mixed.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in plain.state_dict().items())
    assert mixed.fusion.scores.abs().max() > 0


def test_a_learned_mixture_adds_its_own_loss_once(small) -> None:
    network, _, objectives = network_of("late:mode=weighted+equal", small)
    plain, _, _ = network_of("late+equal", small)
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if k != "fusion.scores"})
    batch = small.examples(12)
    output = network(batch.inputs)
    losses, _ = network.losses(output, batch, Measure(objectives))
    branches, _ = plain.losses(plain(batch.inputs), batch, Measure(objectives))
    mixture, _ = objective_losses(output.logits, batch.targets, objectives)
    torch.testing.assert_close(losses, branches + mixture)


def test_what_is_missing_is_zero_after_encoding(small) -> None:
    network, _, _ = network_of("concat+equal", small)
    inputs = small.examples(12, missing=0.5).inputs
    seen = []
    network.fusion.register_forward_pre_hook(lambda module, given: seen.append(given))
    network(inputs)
    views, present = seen[0]
    assert present.tolist() == torch.stack([inputs.present["x"], inputs.present["y"]], 1).tolist()
    assert (views[~present] == 0).all() and (views[present].abs().sum(1) > 0).all()


def test_the_strategy_hears_mean_losses_over_the_batches_that_had_a_label(small, monkeypatch) -> None:
    network, strategy, objectives = network_of("concat+equal", small)
    part = small.examples(48, unlabelled=0.0)
    part.targets["useful"][5:] = -1  # so that some batches have no label of it
    part.targets["kinds"][:] = -1
    seen, heard = [], []
    monkeypatch.setattr(strategy, "end_epoch", heard.append)
    monkeypatch.setattr(
        strategy, "combine", lambda losses, active, _: seen.append((losses.tolist(), active.tolist())) or losses.sum()
    )
    context = small.context(epochs=1, batch_size=4)
    history = train_network(network, strategy, objectives, part, part, context)
    by_place: dict[int, list[float]] = {}
    for losses, active in seen:
        for place, loss in zip(active, losses, strict=True):
            by_place.setdefault(place, []).append(loss)
    assert set(by_place) == {0, 3} and len(by_place[0]) == 12 > len(by_place[3])
    for place, losses in by_place.items():
        assert heard[0][place].item() == pytest.approx(sum(losses) / len(losses))
    assert heard[0][[1, 2]].isnan().all()
    assert history["train"][0][1:3] == [None, None]


def test_uncertainty_trains_its_variances(small) -> None:
    _, strategy, history = train("concat+uncertainty", small, epochs=3)
    assert (strategy.log_variance != -0.5).all()
    assert history["weights"][-1] == pytest.approx((torch.exp(-strategy.log_variance) / 2).tolist())


def test_unlabelled_rows_do_not_train(small) -> None:
    """Rows without any label change neither a loss nor a gradient."""
    network, _, objectives = network_of("concat+equal", small)
    batch = small.examples(12, unlabelled=0.5)
    for target in batch.targets.values():
        target[4:] = -1
    gradients = []
    for part in (batch, Examples(batch.inputs.rows(torch.arange(4)), {c: t[:4] for c, t in batch.targets.items()})):
        losses, _ = network.losses(network(part.inputs), part, Measure(objectives))
        network.zero_grad()
        losses.sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)


def test_plateau_divides_the_rate_by_ten_after_two_epochs_without_a_better_objective(small, monkeypatch) -> None:
    objectives = iter([1.0, 0.9, 0.95, 0.8, 0.85, 0.85, 0.7])
    rates: list[float] = []

    class Spied(torch.optim.Adam):
        def step(self, closure=None):  # type: ignore[override, no-untyped-def]
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Spied)
    monkeypatch.setattr("mmbench.training.loop._validate", lambda *_: next(objectives))
    network, strategy, listed = network_of("concat+equal", small)
    context = small.context(epochs=7, batch_size=50)
    optimiser = common_optimiser([*network.parameters(), *strategy.parameters()], context.settings, plateau=True)
    train_network(network, strategy, listed, small.examples(41), small.examples(20, seed=1), context, optimiser)
    assert rates == pytest.approx([0.01] * 6 + [0.001])


def test_a_penalty_is_added_once_to_what_the_strategy_made_of_the_losses(small, monkeypatch) -> None:
    forward = Network.forward

    def gradient() -> torch.Tensor:
        network, strategy, objectives = network_of("concat+equal", small)
        context = small.context(epochs=1, batch_size=50)
        train_network(network, strategy, objectives, small.examples(41), small.examples(20, seed=1), context)
        return network.trunks[0][0].bias.grad

    plain = gradient()
    monkeypatch.setattr(
        Network, "forward", lambda self, x: replace(forward(self, x), penalty=3 * self.trunks[0][0].bias.sum())
    )
    torch.testing.assert_close(gradient(), plain + 3)
