"""The generated sample of CrisisMMD: its law in closed form, its files, and its ceilings."""

from __future__ import annotations

import importlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from mmbench.contracts import Dataset, LoadRequest
from mmbench.errors import UsageError
from mmbench.plugins import shipped
from mmbench.sample_folder import is_whole

CRISISMMD = shipped("tasks", "crisismmd")
TASK = CRISISMMD.TASK
sample, law, labels, grammar = (
    importlib.import_module(f"{CRISISMMD.__name__}.{name}") for name in ("sample", "law", "labels", "grammar")
)
H = labels.HUMANITARIAN


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scratch")
    sample.ensure(folder)
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "EVENTS", {"coast_storm": 30, "river_flood": 30})


def load(scratch: Path, protocol: str = "mt25", root: Path | None = None, **options: str) -> Dataset:
    chosen = next(p for p in TASK.protocols if p.name == protocol)
    values = {option.name: option.default for option in TASK.options} | dict(chosen.defaults) | options
    dataset: Dataset = TASK.load(LoadRequest(root, scratch, chosen, values, ("text", "image")))
    return dataset


def texts(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.suffix in (".tsv", ".csv")}


# the law


def scores(concept: str, mode: str, text: int, image: int, given: tuple[str, ...]) -> dict[str, float]:
    declared = next(c for c in labels.concepts(mode) if c.name == concept)
    cues = {"text": np.array([text]), "image": np.array([image])}
    return dict(zip(declared.labels, law.posterior(declared, mode, cues, given)[0], strict=True))


def test_the_laws_are_distributions_with_the_declared_shares() -> None:
    for one, shares in ((law.topic_law(), law.TOPIC_SHARES), (law.damage_law(), law.DAMAGE_SHARES)):
        assert one.probability.sum() == pytest.approx(1, abs=1e-12)
        text, image = one.cues["text"], one.cues["image"]
        vague = one.probability[(text == 0) & (image == 0)].sum()
        assert vague == pytest.approx(shares["neither"], abs=1e-12)
        assert one.probability[(text > 0) & (image == 0)].sum() == pytest.approx(shares["text"], abs=1e-12)
        assert one.probability[(text == 0) & (image > 0)].sum() == pytest.approx(shares["image"], abs=1e-12)
        n_clear = law.TOPICS if one is law.topic_law() else len(labels.DAMAGE)
        assert one.probability[text > n_clear].sum() == pytest.approx(shares["both"], abs=1e-12)


def test_a_code_is_known_only_from_both() -> None:
    both = ("text", "image")
    for pair, alternatives in enumerate(law.PAIRS):
        for bit in (0, 1):
            text = law.code(law.TOPICS, 2 * pair + bit)
            alone = scores("humanitarian", "union", text, 0, ("text",))
            assert [alone[H[h]] for h in alternatives] == pytest.approx([0.5, 0.5])
            for key in (0, 1):
                image = law.code(law.TOPICS, key)
                together = scores("humanitarian", "union", text, image, both)
                assert together == pytest.approx({h: float(h == H[alternatives[bit ^ key]]) for h in H})
                seen = scores("humanitarian", "union", 0, image, ("image",))
                every = [h for pair_labels in law.PAIRS for h in pair_labels]
                assert [seen[H[h]] for h in every] == pytest.approx([0.25] * 4)


def test_vague_cues_leave_the_prior_and_clear_ones_follow_bayes() -> None:
    both = ("text", "image")
    prior = scores("humanitarian", "union", 0, 0, both)
    assert list(prior.values()) == pytest.approx(law.TOPIC_PRIOR)
    assert scores("informative", "union", 0, 0, both)["informative"] == pytest.approx(1 - law.TOPIC_PRIOR[0])
    wrong = law.WRONG_TOPIC / 7
    for k, p in enumerate(law.TOPIC_PRIOR):
        expected = (1 - law.WRONG_TOPIC) * p / ((1 - law.WRONG_TOPIC) * p + wrong * (1 - p))
        assert scores("humanitarian", "union", law.clear(k), 0, both)[H[k]] == pytest.approx(expected)
        assert scores("humanitarian", "union", 0, law.clear(k), both)[H[k]] == pytest.approx(expected)
    two = scores("humanitarian", "union", law.clear(3), law.clear(7), both)
    assert two == pytest.approx({h: float(h in (H[3], H[7])) for h in H})
    assert scores("damage", "union", 0, law.clear(2), ("image",))["severe_damage"] == pytest.approx(1)
    assert list(scores("damage", "union", 0, 0, both).values()) == pytest.approx(law.DAMAGE_PRIOR)


@pytest.mark.parametrize("mode", labels.MODES)
def test_posteriors_are_calibrated_on_rows_the_sampler_draws(mode: str) -> None:
    rng = np.random.default_rng(11)
    topics, severities = law.topic_law(), law.damage_law()
    # the second image of a tweet: its row must follow the same law as any other
    topic = np.array([sample._draw_tweet(rng, topics, 2)[1] for _ in range(6000)])
    severity = np.array([sample._draw_tweet(rng, severities, 2)[1] for _ in range(6000)])
    a, b = topics.labels["text"][topic], topics.labels["image"][topic]
    info = {"text_info": (a > 0).astype(int), "image_info": (b > 0).astype(int)}
    columns = {"text_human": a, "image_human": b, "image_damage": severities.labels["image"][severity]} | info
    targets = labels.targets(columns, mode)
    for concept in labels.concepts(mode):
        chosen, drawn = (severities, severity) if concept.name == "damage" else (topics, topic)
        cues = {modality: values[drawn] for modality, values in chosen.cues.items()}
        held = labels.memberships(targets[concept.name], len(concept.labels))
        labelled = held.any(axis=1)
        for given in law.SOURCES.values():
            p = law.posterior(concept, mode, cues, given)[labelled]
            assert (p >= 0).all() and (p <= 1).all()
            if concept.kind == "exclusive":
                assert p.sum(axis=1) == pytest.approx(1)
            for value in np.unique(p.round(9)):
                same = np.abs(p - value) < 1e-8
                n_held, n_rows = int(held[labelled][same].sum()), int(same.sum())
                assert binomtest(n_held, n_rows, float(np.clip(value, 0, 1))).pvalue > 1e-5


# the files


def test_the_official_loader_reads_the_same_from_scratch_and_from_a_folder(scratch: Path) -> None:
    home = scratch / f"crisismmd-sample-v{sample.VERSION}"
    ours, given = load(scratch), load(scratch / "unused", root=home)
    assert ours.generated and given.generated and "(generated)" in ours.title == given.title
    assert ours.fingerprint == given.fingerprint
    assert not (scratch / "unused").exists()
    rows = sample.sample_rows()
    assert ours.ids.tolist() == [row.image for row in rows]
    assert list(ours.inputs["text"]) == [row.text for row in rows]
    held = labels.union_humanitarian(np.array([r.text_human for r in rows]), np.array([r.image_human for r in rows]))
    assert (ours.targets["humanitarian"] == held).all()
    assert all(image.is_file() for image in ours.inputs["image"])


@pytest.mark.parametrize("protocol", [p.name for p in TASK.protocols])
def test_every_protocol_reads_it(scratch: Path, protocol: str) -> None:
    dataset = load(scratch, protocol)
    assert dataset.generated
    for problem in dataset.problems:
        assert min((problem.split == part).sum() for part in ("train", "val", "test")) > 0
    for source in ("text", "image", "text+image"):
        for concept in dataset.concepts:
            assert dataset.ceilings[source][concept.name].shape == (len(dataset.ids), len(concept.labels))


def test_size_and_balance(scratch: Path) -> None:
    assert 1400 <= len(load(scratch).ids) <= 1600
    for protocol in ("mt25", "agreed"):
        dataset = load(scratch, protocol)
        for concept in dataset.concepts:
            counts = labels.memberships(dataset.targets[concept.name], len(concept.labels)).sum(axis=0)
            assert counts.min() >= 40
            assert counts.max() / counts.min() > 1.5


def test_tweets_have_the_traps_of_real_ones(scratch: Path) -> None:
    dataset = load(scratch)
    for trap in ("RT @", "&amp;", "https://", "â€", '"', *grammar.EMOJI):
        assert sum(trap in text for text in dataset.inputs["text"]) >= 5
    _, images = np.unique(dataset.groups, return_counts=True)
    assert set(images.tolist()) == {1, 2, 3, 4}
    rows = sample.sample_rows()
    assert 0.2 < np.mean([row.text_human != row.image_human for row in rows]) < 0.6
    assert len({Path(row.image).suffix for row in rows}) == 2


def test_images_of_a_tweet_share_its_text_and_its_label() -> None:
    by_tweet: dict[str, list[tuple[object, ...]]] = {}
    for row in sample.sample_rows():
        by_tweet.setdefault(row.tweet, []).append((row.text, row.text_human, *row.cues[::2]))
    assert sum(len(rows) > 1 for rows in by_tweet.values()) > 50
    assert all(len(set(rows)) == 1 for rows in by_tweet.values())


def test_generating_twice_writes_the_same(tmp_path: Path, small: None) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        assert len(sample.generate(tmp_path / name)) == 60
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) == 60 + 2 + 15 + 1
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_whole_sample_is_used_and_a_damaged_one_is_written_again(tmp_path: Path, small: None) -> None:
    home = sample.ensure(tmp_path)
    written = texts(home)
    inode = home.stat().st_ino
    assert sample.ensure(tmp_path) == home and home.stat().st_ino == inode
    annotation = next(home.glob("annotations/*.tsv"))
    image = next(home.glob("data_image/**/*.jpg"))
    for damage in (
        lambda: annotation.write_bytes(annotation.read_bytes()[:-1] + b"x"),
        lambda: image.write_bytes(image.read_bytes()[:-5]),
        image.unlink,
        (home / "sample.json").unlink,
        lambda: (home / "sample.json").write_text("{"),
        (home / "cues.csv").unlink,
    ):
        damage()
        assert not is_whole(home, sample.VERSION)
        assert sample.ensure(tmp_path) == home and is_whole(home, sample.VERSION)
        assert texts(home) == written
    assert [path.name for path in tmp_path.iterdir()] == [home.name]


def test_several_at_once(tmp_path: Path, small: None) -> None:
    with ThreadPoolExecutor(4) as pool:
        homes = list(pool.map(sample.ensure, [tmp_path] * 4))
    assert len(set(homes)) == 1 and is_whole(homes[0], sample.VERSION)
    assert [path.name for path in tmp_path.iterdir()] == [homes[0].name]


def test_a_scratch_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="the sample cannot be written to"):
        load(tmp_path / "file")


def test_a_damaged_marker_never_passes_for_real_data(tmp_path: Path, small: None) -> None:
    home = sample.ensure(tmp_path)
    (home / "cues.csv").write_text("image\n")
    with pytest.raises(UsageError, match="does not fit the generated sample"):
        load(tmp_path, root=home)
    (home / "sample.json").write_text(json.dumps({"version": None}))
    with pytest.raises(UsageError, match="damaged"):
        load(tmp_path, root=home)


def test_a_sample_of_another_version_is_generated_and_has_no_ceilings(tmp_path: Path, small: None) -> None:
    home = sample.ensure(tmp_path)
    (home / "sample.json").write_text(json.dumps({"version": sample.VERSION + 1}))
    dataset = load(tmp_path, root=home)
    assert dataset.generated and dataset.ceilings == {}


# the ceilings


@pytest.mark.parametrize("mode", labels.MODES)
def test_two_modalities_know_more_than_one(scratch: Path, mode: str) -> None:
    dataset = load(scratch, labels=mode)
    for concept in dataset.concepts:
        rows = dataset.labelled(concept.name)
        target = dataset.targets[concept.name][rows]
        macro = {}
        for source, by_concept in dataset.ceilings.items():
            p = by_concept[concept.name][rows]
            predicted = (p >= 0.5).astype(int) if concept.kind == "multilabel" else p.argmax(axis=1)
            names = list(range(len(concept.labels)))
            macro[source] = f1_score(target, predicted, labels=names, average="macro", zero_division=0)
        margin = 0.1 if mode == "union" else 0.0
        assert macro["text+image"] > max(macro["text"], macro["image"]) + margin
        assert min(macro["text"], macro["image"]) > 0.3


def test_a_linear_model_reads_the_text_and_stays_below_the_ceiling(scratch: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    dataset = load(scratch)
    test = dataset.problems[0].split == "test"
    target = dataset.targets["informative"]
    features = TfidfVectorizer(ngram_range=(1, 2)).fit_transform(dataset.inputs["text"])
    model = LogisticRegression(class_weight="balanced").fit(features[~test], target[~test])
    learned = f1_score(target[test], model.predict(features[test]), average="macro")
    majority = f1_score(target[test], np.ones(test.sum()), average="macro", zero_division=0)
    both = dataset.ceilings["text+image"]["informative"].argmax(axis=1)
    assert majority + 0.2 < learned < f1_score(target[test], both[test], average="macro") - 0.05


def test_the_plug_in_says_what_it_is() -> None:
    assert (CRISISMMD.NAME, TASK.protocols[0].name, TASK.embedded) == ("crisismmd", "mt25", "sample")
    table = [f"{fusion}+equal" for fusion in ("concat", "tensor", "graph", "igfn")]
    table += ["concat+moo", "concat+mti", "concat+dmtl", "igfn+dmtl"]
    for protocol in TASK.protocols:
        assert len(set(protocol.suite)) == len(protocol.suite)
        assert set(protocol.defaults) <= {option.name for option in TASK.options}
        for option in TASK.options:
            assert protocol.defaults.get(option.name, option.default) in option.choices
        if protocol.name.startswith("mt25"):
            assert list(protocol.suite[:8]) == table
