"""``mmbench data init-card``: propose a task card for a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init_card(
    table: Annotated[Path, typer.Argument(metavar="FILE", help="A table: .csv, .tsv, .jsonl or .parquet.")],
    label: Annotated[list[str] | None, typer.Option(help="A column that is a label; may be given again.")] = None,
    output: Annotated[Path | None, typer.Option(help="The card to write; by default beside the table.")] = None,
) -> None:
    """Propose a task card (TOML) for a table of one's own data."""
    from mmbench.card import read_card
    from mmbench.card_proposal import propose
    from mmbench.errors import UsageError

    card = output or table.with_suffix(".toml")
    if card.parent.resolve() != table.parent.resolve():
        raise UsageError(f"--output {card}: expected a file in {table.parent}, since a card's paths are relative to it")
    text = propose(table, label or [])
    try:
        with card.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{card} is there already: remove it, or name another with --output") from None
    except OSError as error:
        raise UsageError(f"{card} cannot be written: {error.strerror}") from None
    typer.echo(text, nl=False)
    name = read_card(card).name
    typer.echo(f"written to {card}: read it and correct it, then", err=True)
    typer.echo(f"  mmbench run {name} --plugin {card} --method all", err=True)
