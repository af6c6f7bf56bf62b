"""``logmel``: closed forms, a plain Fourier sum, others' filters, torchaudio where it works; hostile recordings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from transformers.audio_utils import mel_filter_bank

from mmbench.errors import UsageError
from mmbench.features import audio, check, encode, fingerprint
from mmbench.features.audio import bands, describe, log_mel, open_audio, torch_mel
from mmbench.features.files import UnreadableError
from mmbench.features.optional import usable

NOTHING = np.empty(0, dtype=np.int64)
ROOT = Path(__file__).parents[2]


def tone(frequency: float, seconds: float = 1.0, rate: int = 16_000) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def noise(samples: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, samples))


def test_the_bands_are_htk_triangles() -> None:
    expected = mel_filter_bank(513, 128, 0.0, 8000.0, 16_000, norm=None, mel_scale="htk").T
    np.testing.assert_allclose(bands().numpy(), expected, atol=1e-9)
    assert (bands().sum(dim=1) > 0).all()  # with 400 places, four bands would be empty


def test_each_spectrum_is_the_fourier_sum_of_its_window() -> None:
    x = noise(1000).numpy()
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    starts = range(0, 1000 - 400 + 1, 160)
    power = np.stack([np.abs(np.fft.rfft(x[s : s + 400] * hann, 1024)) ** 2 for s in starts], axis=1)
    np.testing.assert_allclose(torch_mel(torch.from_numpy(x)), bands().numpy() @ power, atol=1e-10)


@pytest.mark.parametrize(("samples", "frames"), [(400, 1), (559, 1), (560, 2), (16_000, 98)])
def test_a_second_has_98_frames(samples: int, frames: int) -> None:
    assert log_mel(noise(samples).float()).shape == (128, frames)


@pytest.mark.parametrize("frequency", [440.0, 1000.0, 5000.0])
def test_a_tone_is_a_ridge_in_its_own_band(frequency: float) -> None:
    spectra = log_mel(torch.from_numpy(tone(frequency)))
    place = 129 * np.log10(1 + frequency / 700) / np.log10(1 + 8000 / 700) - 1
    assert (spectra.argmax(dim=0) - round(place)).abs().max() <= 1


def test_silence_is_the_floor() -> None:
    np.testing.assert_allclose(log_mel(torch.zeros(1600)), np.log(1e-6), rtol=1e-6)


def test_torchaudio_and_torch_agree() -> None:
    if usable("torchaudio") is None:
        pytest.skip("torchaudio is not installed or cannot be imported here: see nox -s audio")
    for samples in (noise(8000).float(), torch.from_numpy(tone(440)), torch.zeros(1600)):
        assert (log_mel(samples) - (torch_mel(samples) + 1e-6).log()).abs().max() < 1e-4


def test_recordings_become_means_and_deviations(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(440), 16_000)
    soundfile.write(tmp_path / "b.flac", tone(880), 16_000)
    (tmp_path / "c.wav").write_bytes(b"RIFF")
    paths = [tmp_path / "a.wav", None, tmp_path / "b.flac", tmp_path / "c.wav", tmp_path / "none.wav"]
    encoded = encode("logmel", "audio", paths, NOTHING, tmp_path / "cache")
    assert encoded.values.shape == (5, 256) and encoded.values.dtype == np.float32
    assert set(encoded.bad) == {3, 4} and "cannot be decoded" in encoded.bad[3] and "no such file" in encoded.bad[4]
    assert not encoded.values[[1, 3, 4]].any()
    heard = open_audio((tmp_path / "a.wav").read_bytes(), 16_000)
    np.testing.assert_array_equal(encoded.values[0], describe(heard))
    spectra = log_mel(torch.from_numpy(heard)).numpy()
    np.testing.assert_allclose(encoded.values[0, :128], spectra.mean(axis=1), atol=1e-4)
    np.testing.assert_allclose(encoded.values[0, 128:], spectra.std(axis=1), atol=1e-4)


def test_channels_are_averaged_and_rates_converted(tmp_path: Path) -> None:
    left, right = tone(440, rate=44_100), tone(660, rate=44_100)
    soundfile.write(tmp_path / "s.wav", np.stack([left, right], axis=1), 44_100, subtype="FLOAT")
    heard = open_audio((tmp_path / "s.wav").read_bytes(), 16_000)
    assert heard.shape == (16_000,) and heard.dtype == np.float32
    np.testing.assert_allclose(heard[500:-500], ((tone(440) + tone(660)) / 2)[500:-500], atol=2e-3)


@pytest.mark.parametrize("content", [b"", b"text", b"RIFF\xff\xff\xff\xffWAVEfmt ", b"\x00" * 500, b"OggS" * 50])
def test_what_is_no_recording_is_told(content: bytes) -> None:
    with pytest.raises(UnreadableError, match="cannot be decoded"):
        open_audio(content, 16_000)


def test_too_short_too_long_and_not_finite_are_told(tmp_path: Path) -> None:
    for name, samples, rate, said in (
        ("short", np.zeros(399), 16_000, "shorter than 25 ms"),
        ("empty", np.zeros(0), 16_000, "shorter than 25 ms"),
        ("long", np.zeros(3601), 1, "longer than an hour"),
        ("nan", np.full(800, np.nan), 16_000, "not finite"),
    ):
        soundfile.write(tmp_path / f"{name}.wav", samples, rate, subtype="FLOAT")
        with pytest.raises(UnreadableError, match=said):
            open_audio((tmp_path / f"{name}.wav").read_bytes(), 16_000)


def test_the_cache_key_tells_the_front_ends_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for version in (None, "2.10", "2.11"):
        fake = None if version is None else SimpleNamespace(__version__=version)
        monkeypatch.setattr(audio, "usable", lambda name, fake=fake: fake)
        found.add(fingerprint("logmel", "audio"))
    assert len(found) == 3


def test_it_has_no_parameters_and_is_for_recordings() -> None:
    assert check("logmel", "audio") == "logmel" and len(fingerprint("logmel", "audio")) == 64
    with pytest.raises(UsageError, match="unknown parameter of encoder logmel 'bands'"):
        check("logmel:bands=4", "audio")
    with pytest.raises(UsageError, match="encoder logmel is for audio, this modality is image"):
        check("logmel", "image")


@pytest.mark.parametrize("error", ["OSError('undefined symbol')", "RuntimeError('built for CUDA')", "ImportError()"])
def test_a_torchaudio_that_fails_counts_as_absent(error: str, tmp_path: Path) -> None:
    """An installed torchaudio whose import fails would break every import of transformers' audio code."""
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio" / "__init__.py").write_text(f"raise {error}")
    shielded = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from mmbench.features.optional import usable\n"
        "assert usable('torchaudio') is None and usable('torchaudio') is None\n"
        "from importlib.util import find_spec\n"
        "print(find_spec('torchaudio'))"
    )
    done = subprocess.run([sys.executable, "-c", shielded], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"
