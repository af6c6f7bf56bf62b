"""Checkpoints that are trained with the network: texts and image files to sequences of features.

A batch goes through a checkpoint a few rows at a time, texts of similar length together. In training what a few rows
leave behind is not kept but computed again when their turn comes in the backward pass, so that memory holds a few rows
and gradients add up to those of the whole batch, whatever the loss (gradient accumulation that is exact even for a
contrastive term). A row whose input is missing does not go through it at all.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from mmbench.contracts import Inputs, Modality
from mmbench.errors import MmbenchError
from mmbench.features import parse
from mmbench.features.checkpoint import find_checkpoint, load
from mmbench.features.files import UnreadableError
from mmbench.features.huggingface import text_limit, text_tower
from mmbench.features.image import open_image

READERS = 8  # threads that decode images; the bits do not depend on their number
Chunk = tuple[list[int], tuple[Tensor, ...]]


class Backbone(nn.Module):
    """One modality's checkpoint; its last hidden states are the sequence.

    Batch normalisation keeps the statistics that the checkpoint came with: those of a few rows would be worse, and
    would make a row depend on the others. A pooling layer of the checkpoint is not used and not trained.
    """

    features: int
    tower: nn.Module

    @abstractmethod
    def chunks(self, raw: Sequence[Any], size: int) -> Iterator[Chunk]:
        """Read inputs, none of them missing: the places of up to ``size``, and what :meth:`forward` takes of those."""

    @abstractmethod
    def forward(self, *read: Tensor) -> tuple[Tensor, Tensor]:
        """What was read of b inputs to their sequences (b, T, features), and the steps that are there, bool (b, T)."""

    def train(self, mode: bool = True) -> Backbone:
        """Training or evaluation mode; batch normalisation stays in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def prepare(self, sample: tuple[Tensor, ...]) -> None:
        """Find ``features`` by a sample of what is read, and leave the pooling layer out of training."""
        for name, parameter in self.tower.named_parameters():
            parameter.requires_grad_("pooler" not in name)
        self.eval()
        with torch.no_grad():
            self.features = self(*sample)[0].shape[-1]


class TextBackbone(Backbone):
    """A text model: token ids (b, L) and the tokens that are there, bool (b, L)."""

    def __init__(self, name: str, max_length: int) -> None:
        super().__init__()
        folder = find_checkpoint(name)
        self.tokenizer = load(name, folder, "AutoTokenizer")
        model = load(name, folder, "AutoModel")
        self.limit, self.padding = text_limit(model, self.tokenizer, max_length)
        self.tower = text_tower(model)
        self.prepare(next(self.chunks(["a"], 1))[1])

    def chunks(self, raw: Sequence[str], size: int) -> Iterator[Chunk]:
        """Shortest texts first, each chunk filled up to its own longest."""
        tokens = self.tokenizer(list(raw), truncation=True, max_length=self.limit, **self.padding)["input_ids"]
        order = sorted((row for row, ids in enumerate(tokens) if ids), key=lambda row: len(tokens[row]))
        for start in range(0, len(order), size):
            places = order[start : start + size]
            longest = len(tokens[places[-1]])
            ids = torch.full((len(places), longest), self.tokenizer.pad_token_id or 0)
            there = torch.zeros_like(ids, dtype=torch.bool)
            for row, place in enumerate(places):
                ids[row, : len(tokens[place])] = torch.tensor(tokens[place])
                there[row, : len(tokens[place])] = True
            yield places, (ids, there)

    def forward(self, *read: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids and mask to hidden states and mask."""
        ids, there = read
        return self.tower(input_ids=ids, attention_mask=there.long()).last_hidden_state, there


class ImageBackbone(Backbone):
    """An image model: pixels (b, 3, H, W); a map becomes the sequence of its places (49 of ResNet-50's)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        folder = find_checkpoint(name)
        self.processor = load(name, folder, "AutoImageProcessor")
        model = load(name, folder, "AutoModel")
        self.tower = getattr(model, "vision_model", model)
        self.prepare((self.pixels(Image.new("RGB", (64, 64)))[None],))

    def pixels(self, image: Image.Image) -> Tensor:
        """A picture as the checkpoint sees it, (3, H, W)."""
        found: Tensor = self.processor(image, return_tensors="pt")["pixel_values"][0]
        return found

    def read(self, path: Path) -> Tensor:
        """A file's pixels.

        Raises:
            MmbenchError: it cannot be read; it could be when the run began.
        """
        try:
            return self.pixels(open_image(path.read_bytes()))
        except (OSError, UnreadableError) as error:
            raise MmbenchError(f"{path} cannot be read any more: {error}") from None

    def chunks(self, raw: Sequence[Path], size: int) -> Iterator[Chunk]:
        """In order."""
        with ThreadPoolExecutor(READERS) as readers:
            for start in range(0, len(raw), size):
                places = list(range(start, min(start + size, len(raw))))
                yield places, (torch.stack(list(readers.map(self.read, (raw[place] for place in places)))),)

    def forward(self, *read: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels to places, all of them there."""
        pixels = read[0].to(next(self.tower.parameters()).dtype)
        hidden: Tensor = self.tower(pixel_values=pixels).last_hidden_state
        if hidden.ndim == 4:
            hidden = hidden.flatten(2).transpose(1, 2)
        return hidden, torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)


def backbone(stream: Modality) -> Backbone:
    """The checkpoint of a modality of texts or images, whose encoder is ``hf:…``.

    Raises:
        UsageError: a checkpoint that is not there, or cannot be loaded safely.
    """
    chosen = parse(stream.encoder, stream.kind)
    if stream.kind == "image":
        return ImageBackbone(chosen.checkpoint)
    return TextBackbone(chosen.checkpoint, chosen.parameters["max_length"])


class Backbones(nn.Module):
    """Inputs with raw modalities to inputs with their sequences; ``rows`` at a time, 0 all at once."""

    def __init__(self, by_modality: dict[str, Backbone], rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.names = tuple(by_modality)
        self.each = nn.ModuleList(by_modality.values())

    def forward(self, inputs: Inputs) -> Inputs:
        """The same samples; modalities without a checkpoint are passed on."""
        values, steps = dict(inputs.values), dict(inputs.steps)
        for name, one in zip(self.names, self.each, strict=True):
            assert isinstance(one, Backbone)
            values[name], steps[name] = self.sequences(one, inputs.raw[name], inputs.present[name])
        return Inputs(values, inputs.present, steps)

    def sequences(self, one: Backbone, raw: NDArray[np.object_], present: Tensor) -> tuple[Tensor, Tensor]:
        """Sequences (B, T, features) of B inputs and their steps, bool (B, T); of a missing one there is none."""
        there = present.nonzero().squeeze(1).tolist()
        size = self.rows or max(len(there), 1)
        again = self.training and len(there) > size
        rows: list[int] = []
        found: list[tuple[Tensor, Tensor]] = []
        for places, read in one.chunks([raw[row] for row in there], size) if there else ():
            moved = [part.to(present.device) for part in read]
            found.append(checkpoint(one, *moved, use_reentrant=False) if again else one(*moved))
            rows += [there[place] for place in places]
        longest = max((hidden.shape[1] for hidden, _ in found), default=1)
        of = found[0][0] if found else next(one.parameters())
        values = of.new_zeros(len(present), longest, one.features)
        steps = torch.zeros(len(present), longest, dtype=torch.bool, device=present.device)
        if not found:
            return values, steps
        index = torch.tensor(rows, device=present.device)
        padded = [pad(hidden, (0, 0, 0, longest - hidden.shape[1])) for hidden, _ in found]
        masks = [pad(mask, (0, longest - mask.shape[1])) for _, mask in found]
        return values.index_copy(0, index, torch.cat(padded)), steps.index_copy(0, index, torch.cat(masks))
