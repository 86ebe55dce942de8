"""All variants of a suite side by side, beside the published figures.

The published figures (`published.csv`, facts as they were printed) come from a protocol
whose test images were for the most part trained on; the measured ones come from a test split
that was never trained on. They stand side by side to be told apart, not to be beaten.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from tabulate import tabulate

from stages.workspace.errors import UserError
from stages.workspace.params import TASKS

PUBLISHED = Path(__file__).with_name("published.csv")
FIGURES = ("accuracy", "macro_f1")
NOTE = (
    "Shares of the test images (accuracy) and mean F1 over the classes, in [0, 1]. "
    "Published: under a protocol that trained on most of its test images."
)


def compare(metrics: Path, variants: Sequence[str]) -> pd.DataFrame:
    """One row per variant: each task's accuracy and macro F1, measured and published.

    Args:
        metrics: folder of <variant>.json; files of variants not named are not read.
        variants: names, in the order of the rows.

    Returns:
        Columns variant, images, then <task>_<figure> and published_<task>_<figure>; empty
        where the variant has no such task or nothing was published.

    Raises:
        UserError: a variant has no metrics.
    """
    published = pd.read_csv(PUBLISHED, index_col="variant")
    rows = []
    for variant in variants:
        path = metrics / f"{variant}.json"
        if not path.is_file():
            raise UserError(f"{path}: missing; run `dvc repro evaluate@{variant}`")
        measured = json.loads(path.read_text(encoding="utf-8"))
        row: dict[str, object] = {"variant": variant, "images": measured["images"]}
        for task in TASKS:
            for figure in FIGURES:
                name = f"{task}_{figure}"
                row[name] = measured.get(task, {}).get(figure)
                known = variant in published.index
                row[f"published_{name}"] = published.loc[variant, name] if known else None
        rows.append(row)
    return pd.DataFrame(rows)


def as_markdown(comparison: pd.DataFrame) -> str:
    """The comparison as a Markdown table with a note on what the columns are."""
    header = ["variant", *(f"{task} {_title(f)}" for task in TASKS for f in FIGURES)]
    rows = [[f"`{row['variant']}`", *_cells(row)] for _, row in comparison.iterrows()]
    table = tabulate(rows, header, tablefmt="github", disable_numparse=True)
    images = ", ".join(str(n) for n in sorted(set(comparison["images"])))
    return f"{table}\n\nMeasured on {images} test images; in brackets: published. {NOTE}\n"


def print_table(comparison: pd.DataFrame) -> None:
    """Print the comparison to the terminal; as wide as needed where it is no terminal."""
    table = Table(title="Test split, measured (published)", caption=NOTE)
    table.add_column("variant", no_wrap=True)
    for task in TASKS:
        for figure in FIGURES:
            table.add_column(f"{task}\n{_title(figure)}", justify="right", no_wrap=True)
    for _, row in comparison.iterrows():
        table.add_row(row["variant"], *_cells(row))
    console = Console()
    Console(width=None if console.is_terminal else 140).print(table)


def _title(figure: str) -> str:
    return figure.replace("_f1", " F1")


def _cells(row: pd.Series) -> list[str]:
    names = [f"{task}_{figure}" for task in TASKS for figure in FIGURES]
    return [_cell(row[name], row[f"published_{name}"]) for name in names]


def _cell(measured: float | None, published: float | None) -> str:
    if pd.isna(measured):
        return "-"
    return f"{measured:.3f}" + ("" if pd.isna(published) else f" ({published:.3f})")
