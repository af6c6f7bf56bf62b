"""Selectors: one canonical name a method, sweeps, globs, and errors that name what is near."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from mmbench.contracts import Objective
from mmbench.errors import UsageError
from mmbench.methods import Method, ablations, build_fusion, build_model, build_strategy, parameters_of, parse, select
from mmbench.plugins import Registry
from mmbench.training.model import NetworkModel

REGISTRY = Registry()
MODALITIES = ("text", "image")
SUITE = ("majority", "linear:text", "linear", "concat+equal", "igfn+dmtl")


def names(text: str, modalities: tuple[str, ...] = MODALITIES) -> list[str]:
    return [method.name for method in parse(text, REGISTRY, modalities)]


def chosen(text: str, modalities: tuple[str, ...] = MODALITIES) -> list[str]:
    return [method.name for method in select(text, REGISTRY, modalities, SUITE)[0]]


# --- canonical names ------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("concat", "concat+equal"),
        (" concat + equal ", "concat+equal"),
        ("igfn:delta=0.5+dmtl:beta=2", "igfn+dmtl"),
        ("igfn:delta=.10+dmtl:beta=1", "igfn:delta=0.1+dmtl:beta=1"),
        ("igfn:delta=1e-1", "igfn:delta=0.1+equal"),
        ("igfn:levels=2:delta=0.1", "igfn:delta=0.1:levels=2+equal"),
        ("igfn:levels=2:delta=0.1:strict_trimodal=true", "igfn:delta=0.1:levels=2:strict_trimodal=on+equal"),
        ("concat+dmtl:beta=-0.0", "concat+dmtl:beta=0"),
        ("concat+dmtl:rebalance=off", "concat+dmtl:rebalance=off"),
        ("concat+dmtl:rebalance=0", "concat+dmtl:rebalance=off"),
        ("concat+dmtl:rebalance=on", "concat+dmtl"),
        ("late:mode=weighted+moo:step=isl", "late:mode=weighted+moo:step=isl"),
        ("lowrank:rank=8", "lowrank:rank=8+equal"),
        ("linear", "linear:all"),
        ("linear:modality=text", "linear:text"),
        ("only:image", "only:image"),
        ("majority", "majority"),
    ],
)
def test_names_are_canonical(text: str, name: str) -> None:
    (method,) = parse(text, REGISTRY, MODALITIES)
    assert method.name == name
    again = parse(name, REGISTRY, MODALITIES)
    assert again == [method], "a canonical name means the same method"
    assert method.is_model == ("+" not in name)


def test_every_choice_of_every_plug_in_comes_back_from_its_name() -> None:
    for fusion, strategy in itertools.product(REGISTRY.list("fusion"), REGISTRY.list("strategy")):
        (method,) = parse(f"{fusion.name}+{strategy.name}", REGISTRY, MODALITIES)
        assert method.name == f"{fusion.name}+{strategy.name}"
        assert parse(method.name, REGISTRY, MODALITIES) == [method]


def test_parameters_are_the_keywords_of_build() -> None:
    known = parameters_of(REGISTRY.load("igfn", "fusion"))
    assert list(known)[:2] == ["delta", "levels"]
    assert {name: default for name, (_, default) in known.items()}["delta"] == 0.5
    assert parameters_of(REGISTRY.load("concat", "fusion")) == {}


def test_floats_keep_twelve_digits_so_that_two_values_are_two_names() -> None:
    assert names("igfn:delta=0.1/0.10001") == ["igfn:delta=0.1+equal", "igfn:delta=0.10001+equal"]
    assert names("concat+gradnorm:learning_rate=1e-7") == ["concat+gradnorm:learning_rate=1e-07"]


# --- sweeps ------


def test_sweeps_are_the_product_of_their_values() -> None:
    assert names("igfn:delta=0.1/0.5+dmtl:beta=0/2") == [
        "igfn:delta=0.1+dmtl:beta=0",
        "igfn:delta=0.1+dmtl",
        "igfn+dmtl:beta=0",
        "igfn+dmtl",
    ]
    assert names("igfn:delta=0.1/0.2:levels=2/3") == [
        "igfn:delta=0.1:levels=2+equal",
        "igfn:delta=0.1+equal",
        "igfn:delta=0.2:levels=2+equal",
        "igfn:delta=0.2+equal",
    ]
    assert names("only:text/image") == ["only:text", "only:image"]
    assert names("linear:all/text") == ["linear:all", "linear:text"]


def test_a_swept_value_that_is_wrong_is_named() -> None:
    with pytest.raises(UsageError, match="delta of igfn was given '7'"):
        parse("igfn:delta=0.1/7", REGISTRY, MODALITIES)


# --- ablations ------


def test_an_ablation_is_the_full_model_and_the_model_without_each_part() -> None:
    assert chosen("ablation:igfn+dmtl") == [
        "igfn+dmtl",
        "igfn:attention=off+dmtl",
        "igfn:similarity=off+dmtl",
        "igfn+dmtl:beta=0",
        "igfn+dmtl:balance=off",
        "igfn+dmtl:rebalance=off",
    ]
    parts = ("encoders", "delta", "gated", "cross", "contrastive", "balance", "class_weights")
    assert chosen("concat,ablation:hybrid") == ["concat+equal", "hybrid", *(f"hybrid:{part}=off" for part in parts)]


def test_an_ablation_keeps_the_given_parameters_and_leaves_out_what_is_off_already() -> None:
    found = ablations("ablation:igfn:delta=0.1:similarity=inner+dmtl:rebalance=off,majority", REGISTRY, MODALITIES)
    assert found == {
        "igfn:delta=0.1:similarity=inner+dmtl:rebalance=off": {
            "igfn:delta=0.1:attention=off:similarity=inner+dmtl:rebalance=off": "dynamic attention",
            "igfn:delta=0.1:similarity=off+dmtl:rebalance=off": "similarity weighting",
            "igfn:delta=0.1:similarity=inner+dmtl:beta=0:rebalance=off": "focal loss",
            "igfn:delta=0.1:similarity=inner+dmtl:balance=off:rebalance=off": "gradient balancing",
        }
    }


def test_a_sweep_of_full_models_is_ablated_one_by_one() -> None:
    assert list(ablations("ablation:igfn:delta=0.1/0.5", REGISTRY, MODALITIES)) == [
        "igfn:delta=0.1+equal",
        "igfn+equal",
    ]


def test_every_declared_part_is_a_parameter_that_changes_the_method() -> None:
    modules = [
        (p, REGISTRY.load(p.name, p.kind)) for p in REGISTRY.list("fusion", "strategy", "model") if p.name != "jd"
    ]
    declared = [(p, module.ABLATIONS) for p, module in modules if hasattr(module, "ABLATIONS")]
    assert {p.name for p, _ in declared} >= {"hybrid", "igfn", "dmtl"}
    for plugin, parts in declared:
        full = f"concat+{plugin.name}" if plugin.kind == "strategy" else plugin.name
        (found,) = ablations(f"ablation:{full}", REGISTRY, MODALITIES).values()
        assert set(found.values()) == set(parts)


def test_what_cannot_be_ablated_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"ablation:concat\+equal: nothing can be switched off"):
        chosen("ablation:concat")
    with pytest.raises(UsageError, match="unknown method 'hybird': did you mean hybrid"):
        chosen("ablation:hybird")
    with pytest.raises(UsageError, match="fuses at least 2 modalities"):
        chosen("ablation:igfn", ("text",))


# --- lists, globs, all ------


@pytest.mark.parametrize("declared", ["['a']", "{'a': 1}", "'a=off'", "None"])
def test_parts_that_are_declared_otherwise_are_one_line(tmp_path: Path, declared: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        f'NAME = "mine"\nKIND = "fusion"\nABLATIONS = {declared}\ndef build(modalities, width, *, a: bool = True): 0\n'
    )
    registry = Registry([path], tmp_path)
    with pytest.raises(UsageError, match=r"mine\.py has ABLATIONS = .*, expected a dictionary"):
        select("ablation:mine", registry, MODALITIES, SUITE)


def test_lists_keep_their_order_without_repeats() -> None:
    assert chosen("igfn+dmtl, concat ,igfn:delta=0.5+dmtl,majority,") == ["igfn+dmtl", "concat+equal", "majority"]


def test_all_is_the_suite() -> None:
    assert chosen("all") == ["majority", "linear:text", "linear:all", "concat+equal", "igfn+dmtl"]
    assert chosen("concat+moo,all")[0] == "concat+moo"


def test_globs_range_over_the_product_and_the_suite() -> None:
    strategies = [p.name for p in REGISTRY.list("strategy")]
    fusions = [p.name for p in REGISTRY.list("fusion")]
    assert chosen("concat+*") == [f"concat+{s}" for s in strategies]
    assert chosen("*+moo") == [f"{f}+moo" for f in fusions]
    assert len(chosen("*+*")) == len(fusions) * len(strategies)
    assert chosen("lin*") == ["linear:text", "linear:all"]
    assert chosen("[ci]*+equal") == ["classical+equal", "concat+equal", "igfn+equal"]


def test_a_glob_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"'nothing\*' matches no method"):
        chosen("nothing*")


def test_what_cannot_run_is_left_out_of_globs_and_refused_by_name() -> None:
    methods, skipped = select("*+equal", REGISTRY, ("text",), SUITE)
    assert [m.name for m in methods] == ["classical+equal", "concat+equal", "late+equal", "mfn+equal"]
    assert len(skipped) == 4
    assert all("at least 2 modalities and was given 1" in line for line in skipped)
    assert {line.split()[2] for line in skipped} == {f"{f}+equal:" for f in ("graph", "igfn", "lowrank", "tensor")}
    methods, skipped = select("all", REGISTRY, ("text",), SUITE)
    assert "igfn+dmtl" not in [m.name for m in methods] and len(skipped) == 1
    for fusion in ("graph", "igfn", "lowrank", "tensor"):
        with pytest.raises(UsageError, match="at least 2 modalities"):
            select(fusion, REGISTRY, ("text",), SUITE)


def test_a_suite_with_an_absent_modality_leaves_that_row_out() -> None:
    methods, skipped = select("all", REGISTRY, ("image", "audio"), SUITE)
    assert [m.name for m in methods] == ["majority", "linear:all", "concat+equal", "igfn+dmtl"]
    assert skipped[0].startswith("left out linear:text: unknown modality 'text'")


def test_a_star_in_a_suite_is_each_modality_in_use() -> None:
    suite = ("concat+equal", "only:*", "linear:*")
    for asked, expected in (("all", ["concat+equal", "only:b", "only:a"]), ("only:*", ["only:b", "only:a"])):
        methods, skipped = select(asked, REGISTRY, ("b", "a"), suite)
        assert [m.name for m in methods][: len(expected)] == expected and not skipped


def test_nothing_that_can_run_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"no method that can run.*at least 2"):
        select("all", REGISTRY, ("text",), ("igfn+dmtl",))
    with pytest.raises(UsageError, match="names no method"):
        chosen(" , ")


# --- errors ------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("concta+equal", "unknown method 'concta': did you mean concat"),
        ("concat+dmlt", "unknown method 'dmlt': did you mean dmtl"),
        ("igfn:dleta=0.1", "unknown parameter of igfn 'dleta': did you mean delta"),
        ("igfn:delta=0", "parameter delta of igfn was given '0': Input should be greater than 0"),
        ("igfn:delta=1.5", "less than or equal to 1"),
        ("igfn:delta=nan", "parameter delta of igfn was given 'nan'"),
        ("igfn:delta=", "parameter delta of igfn was given ''"),
        ("igfn:levels=2.5", "parameter levels of igfn was given '2.5'"),
        ("igfn:delta", "'delta' in 'igfn:delta' is not a parameter: write name=value with delta, levels"),
        ("igfn:", "is not a parameter"),
        ("concat:x=1", "unknown parameter of concat 'x'"),
        ("concat:7", "concat has no parameters"),
        ("igfn:delta=0.1:delta=0.2", "gives delta twice"),
        ("late:mode=mean", "parameter mode of late was given 'mean': Input should be 'mean_prob'"),
        ("concat+gradnorm:a=inf", "parameter a of gradnorm was given 'inf'"),
        ("only", "'only' needs a modality, for example only:text"),
        ("only:txt", "unknown modality 'txt': did you mean text"),
        ("only:all", "unknown modality 'all'"),
        ("only:text:image", "'image' in 'only:text:image' is not a parameter"),
        ("linear:audio", "unknown modality 'audio'"),
        ("equal", "'equal' is a strategy: expected fusion"),
        ("concat+tensor", "is a fusion and a fusion"),
        ("dmtl+igfn", "is a strategy and a fusion"),
        ("concat+equal+moo", "is a fusion and a strategy and a strategy"),
        ("majority+equal", "is a model and a strategy"),
        ("", "unknown method ''"),
        ("concat+", "unknown method ''"),
        ("digits", "unknown method 'digits'"),
        ("CONCAT", "unknown method 'CONCAT'"),
    ],
)
def test_errors_say_what_was_given_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse(text, REGISTRY, MODALITIES)
    assert "\n" not in str(caught.value)


# --- building ------


def test_parameters_reach_the_modules() -> None:
    objectives = tuple(Objective("c", str(k), k, 10, 5) for k in range(3))
    (method,) = parse("igfn:delta=0.2:levels=2+dmtl:beta=1:rebalance=off", REGISTRY, MODALITIES)
    fusion, strategy = build_fusion(method, REGISTRY, 2, 8), build_strategy(method, REGISTRY, objectives)
    assert fusion.graph.settings.delta == 0.2 and fusion.out_features == 16
    assert strategy.focus == 1.0 and not strategy.rebalance
    assert isinstance(build_model(method, REGISTRY), NetworkModel)
    (linear,) = parse("linear:text", REGISTRY, MODALITIES)
    assert build_model(linear, REGISTRY).modality == "text"


def test_weights_come_from_the_global_generator() -> None:
    (method,) = parse("igfn", REGISTRY, MODALITIES)
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(build_fusion(method, REGISTRY, 2, 8).state_dict()["graph.weights.wide.weight"])
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


def test_a_plug_in_of_ones_own_is_selected_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        'NAME = "mean-of-views"\nKIND = "fusion"\nSUMMARY = "mean"\n'
        "from mmbench.modules import Fusion\n"
        "class Mean(Fusion):\n"
        "    def __init__(self, width, power):\n"
        "        super().__init__()\n"
        "        self.out_features, self.power = width, power\n"
        "    def forward(self, views, present):\n"
        "        return views.mean(1) ** self.power\n"
        "def build(modalities: int, width: int, *, power: int = 1):\n"
        "    if power > 3:\n"
        "        raise ValueError('power above 3')\n"
        "    return Mean(width, power)\n"
    )
    registry = Registry([path])
    (method,) = parse("mean-of-views:power=2+moo", registry, MODALITIES)
    assert method.name == "mean-of-views:power=2+moo"
    views = torch.full((1, 2, 4), 3.0)
    assert (build_fusion(method, registry, 2, 4)(views, None) == 9).all()
    names_of_glob = [m.name for m in select("mean*", registry, MODALITIES, ())[0]]
    assert names_of_glob == [f"mean-of-views+{p.name}" for p in registry.list("strategy")]
    (wrong,) = parse("mean-of-views:power=4", registry, MODALITIES)
    with pytest.raises(UsageError, match="mean-of-views:power=4: power above 3"):
        build_fusion(wrong, registry, 2, 4)


def test_methods_are_values() -> None:
    (one,), (two,) = parse("igfn+dmtl", REGISTRY, MODALITIES), parse("igfn:delta=0.5+dmtl", REGISTRY, MODALITIES)
    assert isinstance(one, Method) and one == two and hash(one) == hash(two)


BUILDS = {
    "nothing": "",
    "nonsense": "def build(modalities: int, width: int, *, a: 'Nope' = 1): ...",
    "one": "def build(modalities): ...",
    "none": "def build(modalities, width): ...",
    "wide": """
from mmbench.modules import Fusion
def build(modalities, width):
    if width < 16:
        raise ValueError("too narrow")
    fusion = Fusion()
    fusion.out_features = width
    return fusion
""",
}


@pytest.fixture
def strangers(tmp_path: Path) -> Registry:
    """Fusions whose ``build`` is not what it should be."""
    paths = []
    for name, body in BUILDS.items():
        paths.append(tmp_path / f"{name}.py")
        paths[-1].write_text(f'NAME = "{name}"\nKIND = "fusion"\n{body}\n')
    return Registry(paths, tmp_path)


@pytest.mark.parametrize(
    ("name", "said"), [("nothing", "has no function build"), ("nonsense", "annotations of build cannot be read")]
)
def test_a_plug_in_whose_parameters_cannot_be_told_is_one_line(strangers: Registry, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        select(name, strangers, ("x", "y"), ())
    assert f"{name}.py" in str(raised.value)
    _, left_out = select("*+equal", strangers, ("x", "y"), ())
    assert any(said in line for line in left_out)


@pytest.mark.parametrize(("name", "said"), [("one", "positional argument"), ("none", "returned a NoneType")])
def test_a_plug_in_that_cannot_be_built_is_planned_and_fails_in_its_cell(
    strangers: Registry, name: str, said: str
) -> None:
    ((method,), left_out) = select(name, strangers, ("x", "y"), ())
    assert not left_out
    with pytest.raises(TypeError, match=said):
        build_fusion(method, strangers, 2, 64)


def test_a_fusion_that_wants_width_is_planned_with_the_common_one(strangers: Registry) -> None:
    assert [method.name for method in select("wide", strangers, ("x", "y"), ())[0]] == ["wide+equal"]
