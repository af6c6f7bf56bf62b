"""What steps are: tokens put the text together again, and pictures are shown as the network saw them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mmbench.features.steps import as_seen, patches, tokens

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "flood", "##ing", "in", "town", "!"]


@pytest.fixture(scope="module")
def wordpieces(tmp_path_factory: pytest.TempPathFactory) -> str:
    words = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder = tmp_path_factory.mktemp("wordpieces")
    special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    transformers.BertConfig(vocab_size=len(PIECES)).save_pretrained(folder)
    return str(folder)


def test_pieces_are_those_of_the_text_and_make_it_again(wordpieces: str) -> None:
    text = "flooding  in Kyїv town!"
    found = tokens(wordpieces, text, 8)
    assert found == [" [CLS]", "flood", "ing", "  in", " Kyїv", " town", "!", " [SEP]"]
    assert "".join(found[1:-1]) == text


def test_a_text_that_was_cut_has_the_tokens_that_were_read(wordpieces: str) -> None:
    assert tokens(wordpieces, "flood in town in town in town", 4) == [" [CLS]", "flood", " in", " [SEP]"]


def test_another_number_of_steps_than_tokens_is_not_named(wordpieces: str) -> None:
    assert tokens(wordpieces, "flood", 7) is None


def test_bytes_of_one_letter_are_told_once(tmp_path: Path) -> None:
    letters = Tokenizer(models.BPE({b: n for n, b in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    transformers.PreTrainedTokenizerFast(tokenizer_object=letters).save_pretrained(tmp_path)
    transformers.GPT2Config().save_pretrained(tmp_path)
    found = tokens(str(tmp_path), "a🔥b", 6)
    assert found is not None and len(found) == 6
    assert "".join(piece for piece in found if piece != "·") == "a🔥b"


def checker(side: int = 64) -> Image.Image:
    cells = np.indices((side, side)).sum(0) // 16 % 2
    return Image.fromarray(np.stack([cells * 200 + 20, cells * 0 + 90, 255 - cells * 200], -1).astype(np.uint8))


PROCESSORS: dict[str, dict[str, Any]] = {
    "normalised": {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]},
    "as it is": {"do_normalize": False},
    "not rescaled": {"do_rescale": False, "do_normalize": False},
}


@pytest.mark.parametrize("how", PROCESSORS)
def test_a_picture_comes_back_in_its_colours(how: str) -> None:
    processor = transformers.ViTImageProcessorPil(size={"height": 64, "width": 64}, **PROCESSORS[how])
    shown = as_seen(processor, checker())
    assert shown.dtype == np.uint8 and shown.shape == (64, 64, 3)
    assert np.abs(shown.astype(int) - np.asarray(checker()).astype(int)).max() <= 1


def processor_folder(tmp_path: Path, **options: Any) -> str:
    transformers.ViTImageProcessorPil(size={"height": 28, "width": 28}, **options).save_pretrained(tmp_path)
    transformers.ViTConfig().save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.mark.parametrize(("count", "side"), [(49, 7), (50, 7), (197, 14), (198, 14), (261, 16), (1, 1)])
def test_the_grid_is_square_behind_a_few_special_tokens(count: int, side: int, tmp_path: Path) -> None:
    checker().save(tmp_path / "a.png")
    found = patches(processor_folder(tmp_path), tmp_path / "a.png", count)
    assert found is not None and (found.rows, found.columns) == (side, side)
    assert found.picture.shape == (28, 28, 3)


def test_steps_that_form_no_grid_are_not_drawn_on_the_picture(tmp_path: Path) -> None:
    assert patches("nowhere", tmp_path / "nothing.png", 80) is None
