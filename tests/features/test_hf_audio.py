"""Audio checkpoints of transformers: tiny random wav2vec2 and AST, pooled without padding, or refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from mmbench.errors import UsageError
from mmbench.features import encode, fingerprint

NOTHING = np.empty(0, dtype=np.int64)
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
Build = Callable[[str], Path]


def make(architecture: str) -> tuple[Any, Any]:
    t = transformers
    if architecture == "ast":
        config = t.ASTConfig(**SMALL, patch_size=8, frequency_stride=8, time_stride=8, max_length=64, num_mel_bins=16)
        return t.ASTModel(config), t.ASTFeatureExtractor(num_mel_bins=16, max_length=64)
    if architecture == "whisper":
        config = t.WhisperConfig(
            d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=24, decoder_ffn_dim=24, vocab_size=60, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            decoder_start_token_id=1,
        )  # fmt: skip
        return t.WhisperModel(config), t.WhisperFeatureExtractor(feature_size=80)
    kind = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}[architecture]
    config = getattr(t, f"{kind}Config")(
        **SMALL, conv_dim=(8, 8, 8), conv_kernel=(10, 8, 4), conv_stride=(5, 4, 4), num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2, feat_extract_norm="layer", do_stable_layer_norm=True,
    )  # fmt: skip
    return getattr(t, f"{kind}Model")(config), t.Wav2Vec2FeatureExtractor(return_attention_mask=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    done: dict[str, Path] = {}

    def build(architecture: str) -> Path:
        if architecture not in done:
            torch.manual_seed(0)
            done[architecture] = tmp_path_factory.mktemp(architecture)
            for part in make(architecture):
                part.save_pretrained(done[architecture])
        return done[architecture]

    return build


def wave(seed: int, samples: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples).astype(np.float32)


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    paths = []
    for seed, samples in enumerate((8000, 5000, 6400)):
        paths.append(tmp_path / f"{seed}.wav")
        soundfile.write(paths[-1], wave(seed, samples), 16_000, subtype="FLOAT")
    return paths


def run(folder: Path, values: list[Path | None], cache: Path, options: str = "") -> NDArray[np.float32]:
    return encode(f"hf:{folder}{options}", "audio", values, NOTHING, cache).values


@pytest.mark.parametrize("architecture", ["wav2vec2", "hubert", "wavlm"])
def test_pooled_alone_equals_pooled_under_the_mask_of_a_padded_batch(
    architecture: str, built: Build, recordings: list[Path], tmp_path: Path
) -> None:
    folder = built(architecture)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    batch = transformers.AutoFeatureExtractor.from_pretrained(folder)(
        [wave(0, 8000), wave(1, 5000), wave(2, 6400)], sampling_rate=16_000, padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state
        mask = model._get_feature_vector_attention_mask(hidden.shape[1], batch["attention_mask"])
        expected = (hidden * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        highest = hidden.masked_fill(~mask[..., None].bool(), -torch.inf).amax(dim=1)
    assert len(set(mask.sum(dim=1).tolist())) == 3
    found = run(folder, [*recordings, None], tmp_path / "cache")
    np.testing.assert_allclose(found[:3], expected, atol=1e-4)
    assert not found[3].any()
    np.testing.assert_allclose(run(folder, [*recordings], tmp_path / "cache", ":pool=max"), highest, atol=1e-4)


def test_ast_pools_its_two_class_tokens(built: Build, recordings: list[Path], tmp_path: Path) -> None:
    folder = built("ast")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    spectra = transformers.AutoFeatureExtractor.from_pretrained(folder)(
        wave(0, 8000), sampling_rate=16_000, return_tensors="pt"
    )
    with torch.inference_mode():
        hidden = model(**spectra).last_hidden_state[0]
    expected = {
        "": hidden[:2].mean(dim=0),
        ":pool=pooler": hidden[:2].mean(dim=0),
        ":pool=cls": hidden[0],
        ":pool=mean": hidden.mean(dim=0),
    }
    for options, vector in expected.items():
        found = run(folder, recordings[:1], tmp_path / "cache", options)
        np.testing.assert_allclose(found[0], vector, atol=1e-4)


def test_a_recording_at_another_rate_is_converted_to_the_checkpoints(built: Build, tmp_path: Path) -> None:
    seconds = np.arange(0, 0.5, 1 / 48_000)
    soundfile.write(tmp_path / "fast.wav", 0.3 * np.sin(2 * np.pi * 300 * seconds), 48_000, subtype="FLOAT")
    soundfile.write(tmp_path / "slow.wav", 0.3 * np.sin(2 * np.pi * 300 * seconds[::3]), 16_000, subtype="FLOAT")
    fast, slow = run(built("wav2vec2"), [tmp_path / "fast.wav", tmp_path / "slow.wav"], tmp_path / "cache")
    np.testing.assert_allclose(fast, slow, atol=0.05)


def test_what_is_beyond_max_seconds_is_not_heard(built: Build, tmp_path: Path) -> None:
    for name, samples in (("long", 20_000), ("cut", 16_000)):
        soundfile.write(tmp_path / f"{name}.wav", wave(0, 20_000)[:samples], 16_000, subtype="FLOAT")
    paths: list[Path | None] = [tmp_path / "long.wav", tmp_path / "cut.wav"]
    long, cut = run(built("wav2vec2"), paths, tmp_path / "cache", ":max_seconds=1")
    np.testing.assert_array_equal(long, cut)
    long, cut = run(built("wav2vec2"), paths, tmp_path / "cache")
    assert not np.array_equal(long, cut)


def test_the_cache_key_holds_the_bytes_of_the_checkpoint(built: Build, tmp_path: Path) -> None:
    before = fingerprint(f"hf:{built('wav2vec2')}", "audio")
    assert before != fingerprint(f"hf:{built('hubert')}", "audio")
    assert before == fingerprint(f"hf:{built('wav2vec2')}:max_seconds=30", "audio")
    assert before != fingerprint(f"hf:{built('wav2vec2')}:max_seconds=29", "audio")


def test_a_file_that_is_no_recording_is_told(built: Build, tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(b"none")
    encoded = encode(f"hf:{built('wav2vec2')}", "audio", [tmp_path / "x.wav"], NOTHING, tmp_path / "cache")
    assert "cannot be decoded" in encoded.bad[0]


@pytest.mark.parametrize(
    ("architecture", "options", "said"),
    [
        ("wav2vec2", ":pool=cls", "no class token"),
        ("wav2vec2", ":pool=pooler", "no pooling layer"),
        ("whisper", "", "use wav2vec2, HuBERT, WavLM or AST"),
    ],
)
def test_what_cannot_be_pooled_so_is_one_line(
    architecture: str, options: str, said: str, built: Build, recordings: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        run(built(architecture), recordings[:1], tmp_path / "cache", options)
    assert "\n" not in str(raised.value)


def test_only_a_weight_of_training_may_be_missing(built: Build, recordings: list[Path], tmp_path: Path) -> None:
    model, extractor = make("wav2vec2")
    for part in (model, extractor):
        part.save_pretrained(tmp_path / "w")
    file = tmp_path / "w" / "model.safetensors"
    state = load_file(file)
    before = run(tmp_path / "w", recordings[:1], tmp_path / "a")
    del state["masked_spec_embed"]
    save_file(state, file, {"format": "pt"})
    np.testing.assert_array_equal(run(tmp_path / "w", recordings[:1], tmp_path / "b"), before)
    del state["encoder.layer_norm.weight"]
    save_file(state, file, {"format": "pt"})
    with pytest.raises(UsageError, match="lacks 1 weights"):
        run(tmp_path / "w", recordings[:1], tmp_path / "c")


def test_a_torchaudio_that_cannot_be_imported_does_not_break_transformers(built: Build, tmp_path: Path) -> None:
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio" / "__init__.py").write_text("raise OSError('undefined symbol')")
    broken = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    shielded = (
        "from pathlib import Path\nfrom mmbench.features.checkpoint import load\n"
        f"print(type(load('it', Path({str(built('wav2vec2'))!r}), 'AutoFeatureExtractor')).__name__)"
    )

    def python(code: str) -> subprocess.CompletedProcess[str]:
        root = Path(__file__).parents[2]
        return subprocess.run([sys.executable, "-c", broken + code], cwd=root, capture_output=True, text=True)

    assert "undefined symbol" in python("import transformers.audio_utils").stderr
    assert python(shielded).stdout.strip() == "Wav2Vec2FeatureExtractor"
