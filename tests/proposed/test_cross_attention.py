"""The cross-attention network: its equations by hand with torch's attention, its gates and losses, what is missing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, layer_norm, linear
from torch.testing import assert_close

from mmbench.config import Training
from mmbench.contracts import Concept, Examples, FitContext, Inputs
from mmbench.errors import UsageError
from mmbench.methods import build_model, parse
from mmbench.modules import LinearHeads
from mmbench.plugins import Registry
from mmbench.proposed.cross_attention.network import (
    Block,
    Core,
    CrossAttentionNetwork,
    Gates,
    Settings,
    masked_mean,
)
from mmbench.proposed.hybrid.losses import info_nce
from mmbench.training.attention import MultiHeadAttention
from mmbench.training.losses import Measure, list_objectives

REGISTRY = Registry()
CONCEPTS = (Concept("mood", ("low", "flat", "high")), Concept("kinds", ("a", "b"), "multilabel"))
SIZES = {"text": 5, "image": 3}
THREE = {**SIZES, "age": 2}
SEQUENCES = ("text", "image")


def network_of(sizes: dict[str, int] = SIZES, width: int = 8, **settings: Any) -> CrossAttentionNetwork:
    torch.manual_seed(5)
    chosen = Settings(**{"heads": 2, "dropout": 0.0, **settings})
    return CrossAttentionNetwork(sizes, LinearHeads, CONCEPTS, width, 0.0, chosen).double()


def batch(sizes: dict[str, int] = SIZES, rows: int = 7, steps: int = 4, missing: bool = True) -> Examples:
    """Texts and images are sequences of up to ``steps``, with holes; row 1 lacks the text, row 2 the image."""
    g = torch.Generator().manual_seed(8)
    values, there = {}, {}
    present = {m: torch.ones(rows, dtype=torch.bool) for m in sizes}
    if missing:
        present["text"][1], present["image"][2] = False, False
    for m, size in sizes.items():
        shape = (rows, steps, size) if m in SEQUENCES else (rows, size)
        values[m] = torch.randn(*shape, dtype=torch.float64, generator=g)
        if m in SEQUENCES:
            there[m] = torch.rand(rows, steps, generator=g) > 0.4
            there[m][:, 0] = True
            there[m] &= present[m][:, None]
            values[m] *= there[m][..., None]
    mood, kinds = torch.randint(0, 3, (rows,), generator=g), torch.randint(0, 2, (rows, 2), generator=g)
    mood[::4], kinds[1::4] = -1, -1
    return Examples(Inputs(values, present, there), {"mood": mood, "kinds": kinds})


def measure_of(examples: Examples) -> Measure:
    return Measure(list_objectives(CONCEPTS, examples.targets, "concept"))


def torchs(ours: MultiHeadAttention, width: int) -> nn.MultiheadAttention:
    theirs = nn.MultiheadAttention(width, ours.heads, batch_first=True).double()
    layers = (ours.query, ours.key, ours.value)
    theirs.load_state_dict(
        {
            "in_proj_weight": torch.cat([layer.weight for layer in layers]),
            "in_proj_bias": torch.cat([layer.bias for layer in layers]),
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    return theirs


def feed(block: Block, m: int, x: Tensor) -> Tensor:
    norm, first, _, second, _ = block.feed[m]
    hidden = gelu(linear(layer_norm(x, x.shape[-1:], norm.weight, norm.bias), first.weight, first.bias))
    return x + linear(hidden, second.weight, second.bias)


def test_a_block_of_two_modalities_is_the_papers_by_torchs_attention() -> None:
    torch.manual_seed(0)
    block = Block(2, 8, Settings(heads=4)).double().eval()
    for norm in block.norms:
        nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    t, v = torch.randn(3, 5, 8, dtype=torch.float64), torch.randn(3, 6, 8, dtype=torch.float64)
    t_mask, v_mask = torch.rand(3, 5) > 0.3, torch.rand(3, 6) > 0.3
    t_mask[:, 1], v_mask[:, 2] = True, True
    assert block.pairs == [(0, 1), (1, 0)]
    t_norm, v_norm = (layer_norm(x, (8,), n.weight, n.bias) for x, n in zip((t, v), block.norms, strict=True))
    to_t, to_v = (torchs(attend, 8) for attend in block.attend)
    t_new = t + to_t(t_norm, v_norm, v_norm, key_padding_mask=~v_mask)[0]
    v_new = v + to_v(v_norm, t_norm, t_norm, key_padding_mask=~t_mask)[0]
    found = block([t, v], [t_mask, v_mask])
    assert_close(found[0], feed(block, 0, t_new), rtol=1e-12, atol=1e-13)
    assert_close(found[1], feed(block, 1, v_new), rtol=1e-12, atol=1e-13)


def test_of_three_modalities_each_takes_the_mean_over_the_others_that_are_there() -> None:
    torch.manual_seed(0)
    block = Block(3, 4, Settings(heads=2)).double().eval()
    tokens = [torch.randn(5, 2 + m, 4, dtype=torch.float64) for m in range(3)]
    masks = [torch.ones(5, 2 + m, dtype=torch.bool) for m in range(3)]
    masks[2][1], masks[1][2], masks[2][2], masks[0][4] = False, False, False, False
    masks[0][3] = masks[1][3] = masks[2][3] = False
    found = block(tokens, masks)
    normed = [norm(x) for norm, x in zip(block.norms, tokens, strict=True)]
    at = {
        pair: attend(normed[pair[0]], normed[pair[1]], masks[pair[1]])[0]
        for pair, attend in zip(block.pairs, block.attend, strict=True)
    }
    assert sorted(at) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert_close(found[0][0], feed(block, 0, tokens[0] + (at[0, 1] + at[0, 2]) / 2)[0])
    assert_close(found[0][1], feed(block, 0, tokens[0] + at[0, 1])[1])
    assert_close(found[0][2:4], feed(block, 0, tokens[0])[2:4])
    assert_close(found[1][4], feed(block, 1, tokens[1] + at[1, 2])[4])
    assert_close(found[1][1], feed(block, 1, tokens[1] + at[1, 0])[1])


def test_the_core_is_its_parts() -> None:
    core, examples = network_of().core.eval(), batch(missing=False)
    values, masks = list(examples.inputs.values.values()), list(examples.inputs.steps.values())
    tokens = []
    for m, (project, x) in enumerate(zip(core.project, values, strict=True)):
        tokens.append(layer_norm(x, x.shape[-1:]) @ project[1].weight.T + core.embedding[m])
    for block in core.blocks:
        tokens = block(tokens, masks)
    t, v = (
        torch.stack([x[row][mask[row]].mean(dim=0) for row in range(7)]) for x, mask in zip(tokens, masks, strict=True)
    )
    first, _, second = core.gates.layers
    hidden = torch.relu(torch.cat([t, v], dim=1) @ first.weight.T + first.bias)
    g = torch.softmax(hidden @ second.weight.T + second.bias, dim=1)
    fused = core(values, masks)
    assert_close(fused.pooled, torch.stack([t, v], dim=1), rtol=1e-12, atol=1e-13)
    assert_close(fused.gates, g, rtol=1e-12, atol=1e-13)
    assert_close(fused.joint, g[:, :1] * t + g[:, 1:] * v, rtol=1e-12, atol=1e-13)


def test_gates_sum_to_one_over_those_present_and_zero_weights_give_halves() -> None:
    torch.manual_seed(0)
    gates = Gates(2, 4).double()
    present = torch.tensor([[True, True], [True, False], [False, False]])
    same = torch.randn(3, 1, 4, dtype=torch.float64).expand(3, 2, 4)
    assert_close(gates(same, present).sum(dim=1), torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))
    assert gates(same, present)[1].tolist() == [1.0, 0.0]
    for parameter in gates.layers[2].parameters():
        nn.init.zeros_(parameter)
    assert gates(same, present)[0].tolist() == [0.5, 0.5]


def test_without_gates_the_modalities_present_weigh_alike() -> None:
    network, examples = network_of(THREE, gates=False).eval(), batch(THREE)
    fused = network.fuse(examples.inputs)
    assert fused.gates[0].tolist() == pytest.approx([1 / 3] * 3)
    assert fused.gates[1].tolist() == pytest.approx([0, 0.5, 0.5])
    assert_close(fused.joint[1], fused.pooled[1, 1:].mean(dim=0))


@pytest.mark.parametrize("chosen", [0, 1])
def test_a_gate_forced_to_one_modality_gives_the_heads_of_that_modality(chosen: int) -> None:
    network, examples = network_of().eval(), batch(missing=False)
    last = network.core.gates.layers[2]
    nn.init.zeros_(last.weight), nn.init.zeros_(last.bias)
    last.bias.data[chosen] = 800
    network.trunks[0].load_state_dict(network.trunks[1 + chosen].state_dict())
    network.heads[0].load_state_dict(network.heads[1 + chosen].state_dict())
    output = network(examples.inputs)
    for name, logits in output.logits.items():
        assert_close(logits, output.branches[1 + chosen][0][name], rtol=1e-12, atol=1e-13)


def test_the_loss_is_the_joint_one_plus_the_weighted_unimodal_ones() -> None:
    network, examples = network_of(unimodal_weight=0.3).train(), batch()
    output = network(examples.inputs)
    losses, active = network.losses(output, examples, measure_of(examples))
    assert active.tolist() == [0, 1, 2]
    each = []
    for b, name in enumerate(["all", *SIZES]):
        here = examples.inputs.present.get(name, torch.ones(7, dtype=torch.bool))
        rows = here & (examples.targets["mood"] >= 0)
        loss = [cross_entropy(output.branches[b][0]["mood"][rows], examples.targets["mood"][rows])]
        rows = here & (examples.targets["kinds"][:, 0] >= 0)
        for k in range(2):
            p = output.branches[b][0]["kinds"][rows, k].sigmoid()
            loss.append(-torch.where(examples.targets["kinds"][rows, k] == 1, p, 1 - p).log().mean())
        each.append(torch.stack(loss))
    assert_close(losses, each[0] + 0.3 * (each[1] + each[2]))
    assert output.penalty is None
    assert all(output.logits[name] is output.branches[0][0][name] for name in output.logits)


def test_an_objective_that_only_one_modality_has_a_row_for() -> None:
    network, examples = network_of().train(), batch()
    examples.targets["kinds"][examples.inputs.present["text"]] = -1
    examples.targets["kinds"][1] = torch.tensor([1, 0])
    measure = measure_of(examples)
    output = network(examples.inputs)
    losses, active = network.losses(output, examples, measure)
    assert active.tolist() == [0, 1, 2]
    image = measure(output.branches[2][0], {**examples.targets, "mood": torch.full((7,), -1)})[0]
    joint = measure(output.branches[0][0], examples.targets)[0]
    assert_close(losses[1:], joint[1:] + 0.3 * image)
    nobody = {c: torch.full_like(t, -1) for c, t in examples.targets.items()}
    losses, active = network.losses(output, Examples(examples.inputs, nobody), measure)
    assert losses.shape == active.shape == (0,)


def test_with_no_unimodal_weight_the_unimodal_heads_get_no_gradient() -> None:
    examples = batch()
    for weight, learns in ((0.0, False), (0.3, True)):
        network = network_of(unimodal_weight=weight).train()
        network.losses(network(examples.inputs), examples, measure_of(examples))[0].sum().backward()
        for b in range(3):
            grads = [p.grad for part in (network.trunks[b], network.heads[b]) for p in part.parameters()]
            assert any(bool(g.any()) for g in grads) == (learns or b == 0)


def test_the_contrastive_term_aligns_the_pooled_modalities_in_training_alone() -> None:
    network, examples = network_of(contrastive_weight=0.5).train(), batch()
    pooled = network.fuse(examples.inputs).pooled[[0, 3, 4, 5, 6]]
    expected = 0.5 * info_nce(pooled[:, 0], pooled[:, 1], 0.07, symmetric=True)
    assert_close(network(examples.inputs).penalty, expected)
    assert network.eval()(examples.inputs).penalty is None


def turned(inputs: Inputs, name: str, order: Tensor) -> Inputs:
    values = {**inputs.values, name: inputs.values[name][:, order]}
    return Inputs(values, inputs.present, {**inputs.steps, name: inputs.steps[name][:, order]})


def padded(inputs: Inputs, by: int) -> Inputs:
    values, steps = dict(inputs.values), dict(inputs.steps)
    for name in steps:
        junk = torch.full((len(inputs), by, values[name].shape[2]), 1e3, dtype=torch.float64)
        values[name] = torch.cat([values[name], junk], dim=1)
        steps[name] = torch.cat([steps[name], torch.zeros(len(inputs), by, dtype=torch.bool)], dim=1)
    return Inputs(values, inputs.present, steps)


@pytest.mark.parametrize("sizes", [SIZES, THREE], ids=["two", "three"])
def test_padding_order_of_tokens_and_of_samples_change_nothing(sizes: dict[str, int]) -> None:
    network, inputs = network_of(sizes).eval(), batch(sizes).inputs
    logits = network(inputs).logits["mood"]
    assert_close(network(padded(inputs, 3)).logits["mood"], logits, rtol=1e-12, atol=1e-13)
    for name in SEQUENCES:
        other = turned(inputs, name, torch.tensor([2, 0, 3, 1]))
        assert_close(network(other).logits["mood"], logits, rtol=1e-12, atol=1e-13)
    order = torch.tensor([2, 0, 6, 3, 1, 5, 4])
    assert_close(network(inputs.rows(order)).logits["mood"], logits[order], rtol=1e-12, atol=1e-13)
    for row in range(7):
        alone = network(inputs.rows(slice(row, row + 1))).logits["mood"]
        assert_close(alone, logits[row : row + 1], rtol=1e-12, atol=1e-13)


def test_every_token_that_is_there_counts() -> None:
    network, inputs = network_of().eval(), batch().inputs
    for x in inputs.values.values():
        x.requires_grad_()
    network(inputs).logits["mood"].square().sum().backward()
    for name, x in inputs.values.items():
        assert torch.equal(x.grad.abs().sum(dim=2) > 0, inputs.steps[name])


def test_a_vector_is_a_sequence_of_one_step() -> None:
    network, inputs = network_of().eval(), batch(steps=1).inputs
    vectors = Inputs({m: x[:, 0] for m, x in inputs.values.items()}, inputs.present)
    assert torch.equal(network(vectors).logits["mood"], network(inputs).logits["mood"])


def test_on_vectors_queries_and_keys_learn_nothing() -> None:
    network, inputs = network_of().train(), batch(steps=1, missing=False).inputs
    network(inputs).logits["mood"].square().sum().backward()
    for name, parameter in network.core.blocks.named_parameters():
        idle = any(part in name for part in ("query", "key"))
        assert (parameter.grad.abs().max() < 1e-14) == idle, name


def test_what_is_missing_is_not_seen_and_a_row_without_anything_is_finite() -> None:
    network, examples = network_of(THREE).train(), batch(THREE)
    there = examples.inputs.present
    there["text"][3] = there["image"][3] = there["age"][3] = False
    shaped = {m: there[m].reshape(-1, *(1 for _ in x.shape[1:])) for m, x in examples.inputs.values.items()}
    noisy = {m: torch.where(shaped[m], x, 7.0) for m, x in examples.inputs.values.items()}
    output = network(examples.inputs)
    for name, logits in output.logits.items():
        other = network(Inputs(noisy, there, examples.inputs.steps)).logits[name]
        assert_close(other, logits, rtol=1e-12, atol=1e-13)
    fused = network.fuse(examples.inputs)
    assert not fused.gates[3].any() and not fused.joint[3].any() and not fused.pooled[3].any()
    total = network.losses(output, examples, measure_of(examples))[0].sum()
    gradients = torch.autograd.grad(total, list(network.parameters()))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_masked_mean_without_a_step_is_zero() -> None:
    tokens, mask = torch.ones(2, 3, 4), torch.tensor([[False] * 3, [True, False, True]])
    assert masked_mean(tokens, mask).tolist() == [[0.0] * 4, [1.0] * 4]


def test_gradients_of_a_block_and_of_the_core_are_right() -> None:
    torch.manual_seed(0)
    block = Block(2, 4, Settings(heads=2, dropout=0.0)).double()
    tokens = [torch.randn(3, 2 + m, 4, dtype=torch.float64).requires_grad_() for m in range(2)]
    masks = [torch.ones(3, 2 + m, dtype=torch.bool) for m in range(2)]
    masks[0][0, 1], masks[1][1, 0], masks[1][2] = False, False, False
    check = torch.autograd.gradcheck
    assert check(lambda t, v, *_: tuple(block([t, v], masks)), [*tokens, *block.parameters()], fast_mode=True)
    core = Core([3, 2], 4, Settings(heads=2, dropout=0.0)).double()
    values = [torch.randn(3, 2 + m, 3 - m, dtype=torch.float64).requires_grad_() for m in range(2)]
    assert check(lambda t, v, *_: core([t, v], masks).joint, [*values, *core.parameters()], fast_mode=True)


@pytest.mark.parametrize(
    ("part", "gone"),
    [
        ({"cross": False}, {"core.blocks.attend", "core.blocks.norms"}),
        ({"gates": False}, {"core.gates"}),
        ({"unimodal": False}, set()),
    ],
)
def test_each_switch_takes_its_part_away(part: dict[str, bool], gone: set[str]) -> None:
    def parts(network: nn.Module) -> set[str]:
        names = ([p for p in name.split(".") if not p.isdigit()] for name, _ in network.named_parameters())
        return {".".join(name[: 3 if "blocks" in name else 2]) for name in names}

    whole, less, examples = network_of(), network_of(**part), batch()
    assert parts(whole) - parts(less) == gone
    output = less(examples.inputs)
    assert len(output.branches) == len(less.trunks) == (1 if "unimodal" in part else 3)
    losses, _ = less.losses(output, examples, measure_of(examples))
    if "unimodal" in part:
        assert_close(losses, measure_of(examples)(output.logits, examples.targets)[0])
    idle = [name for name, p in less.named_parameters() if not torch.autograd.grad(
        losses.sum(), p, retain_graph=True, materialize_grads=True, allow_unused=True)[0].any()]  # fmt: skip
    assert idle == [] or all("key.bias" in name for name in idle), idle


def test_without_attention_and_gates_a_modality_does_not_see_the_others() -> None:
    network, examples = network_of(cross=False).eval(), batch(missing=False)
    image = examples.inputs.values["image"].requires_grad_()
    output = network(examples.inputs)
    alone = torch.autograd.grad(output.branches[1][0]["mood"].sum(), image, allow_unused=True, retain_graph=True)[0]
    assert alone is None or not alone.any()
    assert torch.autograd.grad(output.logits["mood"].sum(), image)[0].any()


@pytest.mark.parametrize("modalities", [1, 2, 4])
def test_any_number_of_modalities(modalities: int) -> None:
    sizes = dict(list({"image": 3, "text": 5, "age": 2, "tone": 6}.items())[:modalities])
    network, examples = network_of(sizes).train(), batch(sizes, missing=modalities > 1)
    output = network(examples.inputs)
    assert len(output.branches) == 1 + modalities
    losses, _ = network.losses(output, examples, measure_of(examples))
    gradients = torch.autograd.grad(losses.sum(), list(network.parameters()))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_dropout_is_for_training_alone() -> None:
    network, examples = network_of(dropout=0.5), batch()
    first, second = (network.train()(examples.inputs).logits["mood"] for _ in range(2))
    assert not torch.equal(first, second)
    first, second = (network.eval()(examples.inputs).logits["mood"] for _ in range(2))
    assert torch.equal(first, second)


def fit(selector: str, width: int = 8) -> Any:
    examples = batch(rows=12)
    values = {m: v.float() for m, v in examples.inputs.values.items()}
    examples = Examples(Inputs(values, examples.inputs.present, examples.inputs.steps), examples.targets)
    (method,) = parse(selector, REGISTRY, tuple(SIZES))
    model = build_model(method, REGISTRY)
    model.fit(examples, examples, FitContext(CONCEPTS, 0, Training(epochs=1, width=width)))
    return model.fitted[0][1]


def test_the_width_is_the_runs_or_the_names() -> None:
    assert fit("xattn").core.embedding.shape == (2, 8)
    assert fit("xattn:width=16").core.embedding.shape == (2, 16)


def test_the_paper_s_size() -> None:
    """512 wide, two blocks of eight heads, on BERT-base's and ResNet-50's features."""
    network = CrossAttentionNetwork({"text": 768, "image": 2048}, LinearHeads, CONCEPTS, 512, 0.0, Settings())
    attention = 4 * (512 * 512 + 512)
    feed_forward = 2 * 512 + (512 * 2048 + 2048) + (2048 * 512 + 512)
    block = 2 * (attention + 2 * 512 + feed_forward)
    assert sum(p.numel() for p in network.core.blocks.parameters()) == 2 * block


@pytest.mark.parametrize(
    "selector",
    ["xattn", "xattn:cross=off", "xattn:gates=off", "xattn:unimodal=off", "xattn:width=512:heads=8:layers=2",
     "xattn:unimodal_weight=0:contrastive_weight=0.1:temperature=0.2:dropout=0"],
)  # fmt: skip
def test_selectors(selector: str) -> None:
    (method,) = parse(selector, REGISTRY, ("x", "y"))
    assert method.is_model and method.name.startswith("xattn")
    build_model(method, REGISTRY)


@pytest.mark.parametrize(
    "selector",
    ["xattn:heads=0", "xattn:layers=0", "xattn:dropout=1", "xattn:width=-1", "xattn:unimodal_weight=-1",
     "xattn:temperature=0", "xattn:gates=maybe", "xattn+equal", "concat+xattn"],
)  # fmt: skip
def test_selectors_refused(selector: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(selector, REGISTRY, ("x", "y"))
    assert "\n" not in str(caught.value)


def test_defaults() -> None:
    assert Settings() == Settings(True, True, True, 8, 2, 0.1, 0.3, 0.0, 0.07)
    (method,) = parse("xattn:heads=8:layers=2:unimodal_weight=0.3:gates=on", REGISTRY, ("x", "y"))
    assert method.name == "xattn"
