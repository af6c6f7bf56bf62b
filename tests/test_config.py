"""Settings: layers, every way of writing one, and what each mistake says; and the name they give to a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmbench.config import (
    PRESETS,
    RunConfig,
    Settings,
    Training,
    find_settings,
    merge,
    parse_assignments,
    read_settings,
)
from mmbench.errors import UsageError


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "settings.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def run_config(**changes: Any) -> RunConfig:
    values: dict[str, Any] = {
        "task": "digits",
        "protocol": "split",
        "options": {"labels": "union", "split": "group"},
        "modalities": ("left", "right"),
        "concepts": ("digit",),
        "encoders": {"left": "standardize", "right": "standardize"},
    }
    return RunConfig(**(values | changes))


def test_the_one_budget_is_the_documented_one() -> None:
    assert Training().model_dump() == {
        "learning_rate": 1e-3,
        "batch_size": 64,
        "epochs": 30,
        "patience": 5,
        "min_delta": 0.0,
        "weight_decay": 0.0,
        "width": 64,
        "dropout": 0.3,
        "class_weights": "none",
        "objectives": "concept",
    }


def test_a_file_holds_every_setting(toml: Callable[[str], Path]) -> None:
    settings = read_settings(
        toml(
            'protocol = "mt25"\nmethod = "all"\nseeds = "0-4"\nmodalities = "text"\nconcepts = "damage"\n'
            'data = "d"\nout = "o"\njobs = 2\nsplit_seed = 3\nthresholds = "val"\n'
            '[encoders]\ntext = "tfidf-svd:dim=64"\n[task]\nlabels = "text"\n[training]\nepochs = 7\nlearning_rate=1\n'
        )
    )
    assert settings.data == Path("d") and settings.out == Path("o")
    assert (settings.jobs, settings.split_seed, settings.thresholds) == (2, 3, "val")
    assert settings.encoders == {"text": "tfidf-svd:dim=64"}
    assert settings.task == {"labels": "text"}
    assert Training.model_validate(settings.training) == Training(epochs=7, learning_rate=1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("protocl = 'mt25'", r"unknown setting in settings\.toml 'protocl': did you mean protocol"),
        ("[training]\nlearning_rat = 1", r"'training\.learning_rat': did you mean training\.learning_rate"),
        ("[training]\nepochs = 'many'", r"epochs was given 'many'"),
        ("[training]\nepochs = 0", r"epochs was given 0"),
        ("[training]\nbatch_size = 1", r"batch_size was given 1"),
        ("[training]\ndropout = 1.0", r"dropout was given 1\.0"),
        ("[training]\nlearning_rate = nan", r"learning_rate was given nan"),
        ("[training]\nlearning_rate = inf", r"learning_rate was given inf"),
        ("[training]\nclass_weights = 'balance'", r"class_weights was given 'balance'"),
        ("jobs = 0", r"jobs was given 0"),
        ("jobs = 1.5", r"jobs was given 1\.5"),
        ("seeds = 5", r"seeds was given 5"),
        ("training = 5", r"training was given 5"),
        ("training = 'epochs'", r"training was given 'epochs'"),
        ("encoders = 'tfidf-svd'", r"encoders was given 'tfidf-svd'"),
        ("task = []", r"task was given \[\]"),
        ("= 1", r"is not TOML"),
        ("jobs = 1\njobs = 2", r"is not TOML"),
    ],
)
def test_a_wrong_file_is_one_line(toml: Callable[[str], Path], text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        read_settings(toml(text))
    assert "\n" not in str(raised.value) and "settings.toml" in str(raised.value)


def test_a_file_that_is_not_there_or_not_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_settings(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        read_settings(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not TOML"):
        read_settings(tmp_path / "binary.toml")


def test_assignments_reach_every_section() -> None:
    settings = parse_assignments(
        [
            "training.epochs=5",
            "dropout=0.1",
            "task.labels=a=b",
            "encoders.text=hf:./folder:pool=cls",
            "jobs=3",
            "seeds=0-4",
            "thresholds=val",
        ]
    )
    training = Training.model_validate(settings.training)
    assert (training.epochs, training.dropout) == (5, 0.1)
    assert settings.task == {"labels": "a=b"}
    assert settings.encoders == {"text": "hf:./folder:pool=cls"}
    assert (settings.jobs, settings.seeds, settings.thresholds) == (3, "0-4", "val")
    assert parse_assignments([]) == Settings()


def test_the_last_of_two_assignments_wins() -> None:
    settings = parse_assignments(["training.epochs=5", "epochs=9"])
    assert Training.model_validate(settings.training).epochs == 9


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs", r"--set epochs: expected key=value"),
        ("epoch=5", r"unknown setting 'epoch': did you mean epochs"),
        ("=5", r"unknown setting ''"),
        ("training=5", r"unknown setting 'training'"),
        ("training.epoch=5", r"'training\.epoch': did you mean training\.epochs"),
        ("trainin.epochs=5", r"unknown setting 'trainin\.epochs'"),
        ("epochs=", r"epochs was given ''"),
        ("epochs=five", r"epochs was given 'five'"),
        ("jobs=0", r"jobs was given '0'"),
        ("weight_decay=-1", r"weight_decay was given '-1'"),
        ("thresholds=test", r"thresholds was given 'test'"),
    ],
)
def test_a_wrong_assignment_is_one_line(assignment: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        parse_assignments([assignment])
    assert "\n" not in str(raised.value)


def test_later_layers_win_key_by_key(toml: Callable[[str], Path]) -> None:
    file = read_settings(toml("jobs = 2\n[training]\nepochs = 7\nwidth = 8\n[task]\nlabels = 'text'\n"))
    flags = parse_assignments(["epochs=9", "task.split=row"])
    merged = merge([Settings(protocol="mt25"), file, flags])
    training = Training.model_validate(merged.training)
    assert (merged.protocol, merged.jobs) == ("mt25", 2)
    assert (training.epochs, training.width, training.batch_size) == (9, 8, 64)
    assert merged.task == {"labels": "text", "split": "row"}
    assert Training.model_validate(merge([flags, file]).training).epochs == 7


def test_a_layer_that_says_nothing_changes_nothing() -> None:
    layer = parse_assignments(["jobs=3", "epochs=4", "encoders.text=tfidf-svd"])
    assert merge([layer, Settings()]) == merge([Settings(), layer]) == merge([layer]) == merge([layer, layer])
    assert merge([]) == Settings()


def test_the_preset_of_the_paper_sets_its_learning_rate_and_nothing_else() -> None:
    assert Training.model_validate(find_settings("mt25").training) == Training(learning_rate=0.01)
    assert Training.model_validate(find_settings("mr26").training) == Training(epochs=20, class_weights="balanced")


def test_every_preset_is_valid() -> None:
    presets = sorted(PRESETS.glob("*.toml"))
    assert presets
    for preset in presets:
        assert find_settings(preset.stem) != Settings()


def test_config_takes_a_path_and_names_the_nearest_preset(toml: Callable[[str], Path]) -> None:
    assert find_settings(str(toml("jobs = 2"))).jobs == 2
    with pytest.raises(UsageError, match=r"file 'mt26': did you mean mt25 or mr26\? \(or give a path\)"):
        find_settings("mt26")


def test_the_run_name_depends_on_every_setting_and_on_the_data() -> None:
    base = run_config()
    changed = [
        run_config(task="crisismmd"),
        run_config(protocol="rows"),
        run_config(options={"labels": "text", "split": "group"}),
        run_config(modalities=("right", "left")),
        run_config(concepts=("digit", "parity")),
        run_config(encoders={"left": "standardize", "right": "other"}),
        run_config(split_seed=1),
        run_config(thresholds="val"),
        *(run_config(training=Training(**{key: value})) for key, value in TRAINING_CHANGES.items()),
    ]
    assert set(TRAINING_CHANGES) == set(Training.model_fields)
    hashes = [base.run_hash("data"), base.run_hash("data2"), *(config.run_hash("data") for config in changed)]
    assert len(set(hashes)) == len(hashes)
    assert all(len(name) == 8 and int(name, 16) >= 0 for name in hashes)


TRAINING_CHANGES: dict[str, Any] = {
    "learning_rate": 0.01,
    "batch_size": 32,
    "epochs": 2,
    "patience": 1,
    "min_delta": 0.1,
    "weight_decay": 0.1,
    "width": 32,
    "dropout": 0.0,
    "class_weights": "balanced",
    "objectives": "label",
}


def test_the_run_name_ignores_the_order_of_keys_and_survives_storage() -> None:
    base = run_config()
    reordered = run_config(
        options={"split": "group", "labels": "union"}, encoders={"right": "standardize", "left": "standardize"}
    )
    assert base.run_hash("data") == reordered.run_hash("data")
    stored = RunConfig.model_validate_json(base.model_dump_json())
    assert stored == base and stored.run_hash("data") == base.run_hash("data")
