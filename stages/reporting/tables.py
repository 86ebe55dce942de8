"""Tables as the report, the model cards and the Markdown pages show them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from tabulate import tabulate

EMPTY = "-"
WIDTH = 100  # columns of the terminal that output fits
TASK_TITLES = {"age": "Age group", "gender": "Gender", "race": "Race"}
Format = Callable[[Any], str]


@dataclass(frozen=True)
class Cell:
    """A text, the number it is sorted by (None: the text), and a smaller text after it."""

    text: str
    value: float | None = None
    aside: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.aside}".strip()


@dataclass(frozen=True)
class Table:
    """A table with a caption; `numeric` says for each column whether it holds numbers."""

    caption: str
    header: list[str]
    numeric: list[bool]
    rows: list[list[Cell]]

    def as_markdown(self) -> str:
        """The table in Markdown, without its caption."""
        rows = [[str(cell).replace("|", "\\|") for cell in row] for row in self.rows]
        return tabulate(rows, self.header, tablefmt="github", disable_numparse=True)

    def as_text(self) -> str:
        """The table for the terminal, without its caption; long names are broken to fit WIDTH."""
        rows = [[str(cell) for cell in row] for row in self.rows]
        sides = ["right" if numeric else "left" for numeric in self.numeric]
        options: dict[str, Any] = {"disable_numparse": True, "colalign": sides}
        text = tabulate(rows, self.header, "simple", **options)
        if (excess := max(map(len, text.splitlines())) - WIDTH) > 0:
            names = max(len(row[0]) for row in rows) - excess
            widths = [max(names, len(self.header[0])), *[None] * (len(self.header) - 1)]
            text = tabulate(rows, self.header, "simple", maxcolwidths=widths, **options)
        return text


share: Format = "{:.3f}".format  # in [0, 1]
percent: Format = "{:.1%}".format  # of a share in [0, 1]
count: Format = "{:,.0f}".format


def with_interval(value: float, low: float, high: float) -> Cell:
    """A share followed by its interval, sorted by the share."""
    if pd.isna(value):
        return Cell(EMPTY)
    return Cell(share(value), float(value), "" if pd.isna(low) else f"[{low:.3f}, {high:.3f}]")


def make_table(
    caption: str,
    frame: pd.DataFrame,
    formats: Mapping[str, Format],
    titles: Mapping[str, str] | None = None,
) -> Table:
    """A table of a frame: missing values become a dash, a `Cell` stays as it is.

    `formats` are those of the numeric columns; the others are text. `titles` are those of columns
    whose title is not their name with spaces.
    """
    columns = list(frame.columns)
    header = [(titles or {}).get(c, str(c).replace("_", " ")) for c in columns]
    rows = [
        [_cell(value, formats.get(c)) for c, value in zip(columns, row, strict=True)]
        for row in frame.itertuples(index=False, name=None)
    ]
    return Table(caption, header, [c in formats for c in columns], rows)


def _cell(value: Any, text: Format | None) -> Cell:
    if isinstance(value, Cell):
        return value
    if pd.isna(value) or value == "":
        return Cell(EMPTY)
    return Cell(str(value)) if text is None else Cell(text(value), float(value))


def crossed(
    caption: str, first: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]
) -> Table:
    """A table whose first column is text and whose other columns are numbers."""
    numeric = [False, *([True] * len(header))]
    return Table(caption, [first, *header], numeric, [list(row) for row in rows])
