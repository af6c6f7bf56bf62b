"""The example of docs/scoring.md, run as it stands."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).resolve().parents[2] / "docs" / "scoring.md"


def test_the_language_model_of_the_docs(mmbench, monkeypatch):
    (script,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    prompts = []

    def ask(prompt: str, image: str | None) -> str:
        assert image is None or Path(image).is_file()
        prompts.append(prompt)
        return " " + prompt.rpartition(" of: ")[2].split(", ")[0].rstrip(".").replace("_", " ").capitalize() + ".\n"

    model = ModuleType("my_model")
    model.ask = ask
    monkeypatch.setitem(sys.modules, "my_model", model)
    assert mmbench("data", "export", "crisismmd", "--output", "test.jsonl").code == 0
    exec(compile(script, "scoring.md", "exec"), {})
    assert len(prompts) == 3 * 300
    done = mmbench("score", "crisismmd", "--predictions", "answers.jsonl", "--name", "my-model (zero-shot)")
    assert done.code == 0, done.err
    assert "300 answers to informative were matched but for case" in done.err
    assert "cannot be read" not in done.err
    assert "my-model (zero-shot)" in done.out


def test_the_table_of_the_docs(mmbench, tmp_path):
    (table,) = re.findall(r"```csv\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "a.csv").write_text(table)
    command = ("score", "crisismmd", "--concepts", "informative,humanitarian", "--name", "x", "--predictions", "a.csv")
    assert "299 of 300 test rows have no answer to humanitarian" in mmbench(*command).complaint
