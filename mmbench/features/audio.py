"""``logmel``: log-mel spectra of a recording, their mean and standard deviation over time: 256 numbers.

16 kHz, one channel; windows of 400 samples (25 ms, Hann) every 160 (10 ms), none beyond the ends, so that a second has
98; 128 bands on the HTK mel scale from 0 to 8 kHz; log(power + 1e-6). The transform has 1,024 places: with 400, four of
the 128 bands would hold no frequency at all.

Spectra are torchaudio's where its import works, and torch's otherwise: the same to 1e-4.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache as once
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from scipy.signal import resample_poly
from torch import Tensor

from mmbench.features import Encoded
from mmbench.features.files import UnreadableError, encode_files
from mmbench.features.optional import usable
from mmbench.hashing import digest

VERSION = 1
RATE, WINDOW, HOP, PLACES, BANDS = 16_000, 400, 160, 1024, 128
BESIDE = (PLACES - WINDOW) // 2  # zeros before and after, so that the first window begins with the first sample
LONGEST = 3600  # seconds


def encode(values: Sequence[Path | None], *, cache: Path, identity: list[str]) -> Encoded:
    """Paths to (n, 256); None becomes zeros, and what cannot be read is told by row."""
    return encode_files(values, cache, digest(identity), lambda data: describe(open_audio(data, RATE)))


def describe(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """One recording at 16 kHz to its features, float32 (256,): means, then standard deviations."""
    spectra = log_mel(torch.from_numpy(samples))
    return torch.cat([spectra.mean(dim=1), spectra.std(dim=1, correction=0)]).numpy()


def open_audio(data: bytes, rate: int) -> NDArray[np.float32]:
    """The samples of a wav, flac, ogg or mp3 file, float32 (samples,): channels averaged, at ``rate`` a second.

    Raises:
        UnreadableError: not a recording, truncated, not finite, shorter than 25 ms or longer than an hour.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.frames > LONGEST * file.samplerate:
                raise UnreadableError("it is longer than an hour")
            given, samples = file.samplerate, file.read(dtype="float32", always_2d=True).mean(axis=1)
    except (soundfile.SoundFileError, ValueError, TypeError, MemoryError) as error:
        raise UnreadableError(f"it cannot be decoded: {' '.join(str(error).split())}") from None
    if not np.isfinite(samples).all():
        raise UnreadableError("it holds samples that are not finite")
    if len(samples) * 40 < given:
        raise UnreadableError("it is shorter than 25 ms")
    if given != rate:
        common = gcd(rate, given)
        samples = resample_poly(samples, rate // common, given // common)
    return np.ascontiguousarray(samples, dtype=np.float32)


def log_mel(samples: Tensor) -> Tensor:
    """Samples (S,) at 16 kHz, S >= 400, to log-mel spectra (128, 1 + (S - 400) // 160)."""
    torchaudio = usable("torchaudio")
    power = torch_mel(samples) if torchaudio is None else _torchaudio_mel(samples)
    return (power + 1e-6).log()


def torch_mel(samples: Tensor) -> Tensor:
    """Power in each band, (128, frames), by torch alone."""
    window = torch.hann_window(WINDOW, dtype=samples.dtype)
    padded = torch.nn.functional.pad(samples, (BESIDE, BESIDE))
    spectra = torch.stft(padded, PLACES, HOP, WINDOW, window, center=False, return_complex=True)
    return bands().to(samples.dtype) @ spectra.abs().square()


def _torchaudio_mel(samples: Tensor) -> Tensor:
    import torchaudio

    mel = torchaudio.transforms.MelSpectrogram(
        RATE, PLACES, WINDOW, HOP, pad=BESIDE, n_mels=BANDS, power=2, center=False, mel_scale="htk", norm=None
    )
    power: Tensor = mel.to(samples.dtype)(samples)
    return power


@once
def bands() -> Tensor:
    """Triangles on the HTK mel scale, 2595 log10(1 + f / 700), float64 (128, 513): each peaks at 1 between its
    neighbours' peaks.
    """
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    peaks = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    frequency = np.linspace(0, RATE / 2, PLACES // 2 + 1)
    rising = (frequency - peaks[:-2, None]) / np.diff(peaks)[:-1, None]
    falling = (peaks[2:, None] - frequency) / np.diff(peaks)[1:, None]
    return torch.from_numpy(np.minimum(rising, falling).clip(min=0))


def front_end() -> str:
    """What reads the files and what the spectra come from, for the cache key: the two agree, but not in every bit."""
    torchaudio = usable("torchaudio")
    spectra = "torch" if torchaudio is None else f"torchaudio={torchaudio.__version__}"
    return f"soundfile={soundfile.__version__} {spectra}"
