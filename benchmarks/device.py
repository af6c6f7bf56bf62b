"""What changes on a GPU: scores and seconds of every method, and xattn trained end to end, killed, and resumed.

    python benchmarks/device.py [--device cuda] [--only scores,kill,size] [--rows 512] [--output FILE]

``scores``: digits and generated sequences, every method, on a CPU and on the device: the largest difference of a macro
F1 and of a score, and the seconds of both. ``kill``: tiny random checkpoints on pictures and texts drawn here, trained
end to end, killed without warning and resumed, beside a training that was left alone. ``size``: random checkpoints of
the size of BERT-base and ResNet-50 in each precision, a few rows at a time and all at once: memory and seconds.

Needs no network; takes about five minutes with a GPU and sixteen cores.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
WORDS = ("flood", "water", "town", "safe", "boat", "news", "rain", "road", "help", "food")
SHORT = ("--epochs", "8", "--seeds", "1", "--no-energy")
DIGITS = (
    "all,hybrid,xattn,mfn+equal,classical+equal,late:mode=weighted+equal,tensor+uncertainty,graph+gradnorm,"
    "concat+dmtl:layer=heads"
)
SEQUENCES = "hybrid,hybrid:memory_update=mfn:balance=softmax,xattn,classical+equal,mfn+moo,concat+equal"
CARD = """
name = "drawn"
summary = "texts and pictures drawn at random around their class"
table = "drawn.csv"
id = "id"
licence = "none"
citation = "none"
[modalities.text]
kind = "text"
columns = ["text"]
[modalities.image]
kind = "image"
column = "image"
[concepts.topic]
kind = "exclusive"
column = "topic"
labels = ["one", "two"]
[split]
fractions = [0.6, 0.2, 0.2]
"""


def say(line: str) -> None:
    print(line, flush=True)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mmbench", "run", *arguments]


def run(*arguments: str) -> float:
    """Run mmbench; its seconds. What it says is shown where it fails."""
    started = time.perf_counter()
    done = subprocess.run(command(*arguments), capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode != 0:
        said = done.stdout[-1500:] + done.stderr[-3000:]
        say(f"mmbench run {' '.join(arguments)} ended with {done.returncode}:\n{said}")
    return time.perf_counter() - started


def cells(out: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """By problem, method and seed: the record and the predictions of a finished cell."""
    found = {}
    for path in sorted(out.glob("*/cells/*/*/seed-*/result.json")):
        record = json.loads(path.read_text())
        if record["status"] != "done":
            say(f"{record['method']} {record['status']}: {record['error']['message']}\n{record['error']['traceback']}")
        elif not record["method"].startswith("ceiling:"):
            with np.load(path.with_name("predictions.npz"), allow_pickle=False) as file:
                scores = {name: file[name] for name in file.files if name.startswith("scores/")}
            found[f"{record['problem']} {record['method']} {record['seed']}"] = record, scores
    return found


def same_scores(folder: Path, device: str) -> list[str]:
    """Every method on both devices."""
    lines = [
        "| task | method | seconds cpu | seconds device | largest Δ score | largest Δ macro F1 |",
        "|---|---|---|---|---|---|",
    ]
    tasks = (("digits", DIGITS, ()), ("synthetic-sequences", SEQUENCES, ("--set", "task.samples=1000")))
    for task, methods, options in tasks:
        for where, jobs in (("cpu", str(os.cpu_count() or 1)), (device, "4")):
            asked = (task, "--method", methods, *SHORT, *options, "--device", where, "--jobs", jobs)
            seconds = run(*asked, "--out", str(folder / f"{task}-{where.replace(':', '-')}-{len(lines)}"))
            say(f"{task} on {where} with {jobs} jobs: {seconds:.0f} s")
        here, there = (cells(path) for path in sorted(folder.glob(f"{task}-*"), key=lambda p: p.stat().st_mtime)[-2:])
        for name, (record, scores) in here.items():
            if name not in there:
                lines.append(f"| {task} | {record['method']} | | missing | | |")
                continue
            other, others = there[name]
            gap = max(float(np.abs(scores[key] - others[key]).max()) for key in scores)
            f1 = max(abs(record["metrics"][c]["macro_f1"] - other["metrics"][c]["macro_f1"]) for c in record["metrics"])
            spent = [r["timings"]["fit_seconds"] for r in (record, other)]
            where = f"{task} | {record['method']} ({other['device']})"
            lines.append(f"| {where} | {spent[0]:.2f} | {spent[1]:.2f} | {gap:.1e} | {f1:.3f} |")
    return lines


def checkpoints(folder: Path, full: bool) -> str:
    """Random weights, written as save_pretrained writes them: tiny, or of the size of BERT-base and ResNet-50."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    torch.manual_seed(0)
    words = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]")
    tokenizer.save_pretrained(folder / "text")
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    transformers.BertModel(transformers.BertConfig(**({} if full else small))).save_pretrained(folder / "text")
    few = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    transformers.ResNetModel(transformers.ResNetConfig(**({} if full else few))).save_pretrained(folder / "image")
    side = 224 if full else 64
    transformers.ViTImageProcessorPil(size={"height": side, "width": side}).save_pretrained(folder / "image")
    return f"text=hf:{folder / 'text'},image=hf:{folder / 'image'}"


def draw(folder: Path, rows: int) -> Path:
    """A card, its table and its pictures; texts of 5 to 60 words, pictures of 256 x 256."""
    from PIL import Image

    rng = np.random.default_rng(0)
    folder.mkdir()
    lines = ["id,text,image,topic"]
    for row in range(rows):
        kind = row % 2
        words = rng.choice(WORDS[5 * kind : 5 * kind + 7], size=int(rng.integers(5, 60)))
        picture = rng.integers(0, 200, (256, 256, 3), dtype=np.uint8) + np.uint8(50 * kind)
        Image.fromarray(picture).save(folder / f"{row}.jpg", quality=80)
        lines.append(f"{row},{' '.join(words)},{row}.jpg,{'two' if kind else 'one'}")
    (folder / "drawn.csv").write_text("\n".join(lines) + "\n")
    (folder / "drawn.toml").write_text(CARD)
    return folder / "drawn.toml"


def killed(folder: Path, device: str) -> list[str]:
    """A training that is killed after its second epoch and started again, beside one that is left alone."""
    card, encoders = draw(folder / "few", 200), checkpoints(folder / "tiny", full=False)
    asked = ["drawn", "--plugin", str(card), "--encoders", encoders, "--finetune", "--epochs", "6", "--seeds", "1",
             "--no-energy", "--device", device, "--method", "xattn:micro_batch=8:backbone_rate=0.001"]  # fmt: skip
    run(*asked, "--out", str(folder / "whole"))
    process = subprocess.Popen(command(*asked, "--out", str(folder / "parts")), cwd=ROOT, stderr=subprocess.DEVNULL)
    kept: list[Path] = []
    writes: set[int] = set()
    while process.poll() is None and len(writes) < 2:
        kept = list((folder / "parts").glob("*/cells/*/*/.seed-0.checkpoint"))
        writes |= {path.stat().st_mtime_ns for path in kept}
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stopped = bool(list((folder / "parts").glob("*/cells/*/*/.seed-0.checkpoint")))
    run(*asked, "--out", str(folder / "parts"))
    (whole, scores), (parts, others) = (next(iter(cells(folder / name).values())) for name in ("whole", "parts"))
    left = list((folder / "parts").glob("*/cells/*/*/.*"))
    gap = max(float(np.abs(scores[key] - others[key]).max()) for key in scores)
    return [
        f"killed after {len(writes)} epochs, with a checkpoint: {stopped}; {len(left)} files left behind",
        f"epochs {parts['history']['epochs']} of {whole['history']['epochs']} in the one left alone",
        f"precision {parts['history']['precision']}; validation objectives {whole['history']['val']} and "
        f"{parts['history']['val']}; largest Δ score {gap:.1e} ({'same bits' if gap == 0 else 'not the same bits'})",
        f"macro F1 {whole['metrics']['topic']['macro_f1']:.3f} and {parts['metrics']['topic']['macro_f1']:.3f}",
    ]


def sizes(folder: Path, device: str, rows: int, full: bool) -> list[str]:
    """Memory and seconds by precision and micro-batch."""
    card, encoders = draw(folder / "many", rows), checkpoints(folder / "big", full)
    lines = [
        "| precision | rows at a time | rows trained | epochs | seconds | an epoch | peak GPU memory, GB | val |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for precision, micro in (("bf16", 16), ("bf16", 64), ("fp16", 16), ("float32", 16)):
        out = folder / f"size-{precision}-{micro}"
        run("drawn", "--plugin", str(card), "--encoders", encoders, "--finetune", "--epochs", "2", "--seeds", "1",
            "--no-energy", "--device", device, "--out", str(out), "--method",
            f"xattn:width=512:micro_batch={micro}:precision={precision}")  # fmt: skip
        for record, _ in cells(out).values():
            spent, epochs = record["timings"]["fit_seconds"], record["history"]["epochs"]
            peak = record.get("gpu_peak_bytes", 0) / 1e9
            val = ", ".join(f"{objective:.3f}" for objective in record["history"]["val"])
            what = f"{precision} | {micro} | {rows * 3 // 5} | {epochs}"
            lines.append(f"| {what} | {spent:.1f} | {spent / epochs:.1f} | {peak:.2f} | {val} |")
            say(lines[-1])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", default="scores,kill,size")
    parser.add_argument("--rows", type=int, default=512, help="rows of the large checkpoints' data")
    parser.add_argument("--tiny", action="store_true", help="tiny checkpoints for size too: to try the script")
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    started = time.perf_counter()
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["MMBENCH_CACHE"] = str(folder / "cache")
        parts = {
            "kill": lambda: killed(folder, asked.device),
            "size": lambda: sizes(folder, asked.device, asked.rows, not asked.tiny),
            "scores": lambda: same_scores(folder, asked.device),
        }
        for part, measure in parts.items():
            if part in asked.only.split(","):
                before = time.perf_counter()
                lines += [f"## {part}", *measure(), ""]
                say("\n".join(lines[lines.index(f"## {part}") :]))
                say(f"{part}: {time.perf_counter() - before:.0f} s, {time.perf_counter() - started:.0f} s in all")
                if asked.output:
                    asked.output.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
