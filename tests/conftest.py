"""Fixtures shared by all tests; the real data is looked for beside the project and never written anywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers of a core each: threads of two would wait for one another
WORDS = ("flood", "water", "town", "safe", "boat", "news", "rain", "road", "help", "food")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the user's cache."""
    os.environ["MMBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with real data sets, or a skip where this machine has none."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("MMBENCH_TEST_DATA", default))
    if not root.is_dir():
        pytest.skip(f"real data is not at hand: no folder {root.name} (set MMBENCH_TEST_DATA)")
    return root


@pytest.fixture(scope="session")
def tiny_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A BERT and a ResNet of a few hundred weights, as save_pretrained writes them."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    torch.manual_seed(0)
    folders = {name: tmp_path_factory.mktemp(name) for name in ("text", "image")}
    words = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(
        folders["text"]
    )
    bert = transformers.BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12,
        max_position_embeddings=12,
    )  # fmt: skip
    transformers.BertModel(bert).save_pretrained(folders["text"])
    resnet = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic")
    transformers.ResNetModel(resnet).save_pretrained(folders["image"])
    size = {"height": 16, "width": 16}
    transformers.ViTImageProcessorPil(size=size).save_pretrained(folders["image"])
    return {name: str(folder) for name, folder in folders.items()}
