"""Tables as the page shows them: cells with a text and the value that sorting goes by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

EMPTY = "-"


@dataclass(frozen=True)
class Cell:
    """What stands in a cell.

    Attributes:
        text: the content.
        value: the number that it is sorted by; None: its text.
        aside: what stands smaller below it.
    """

    text: str
    value: float | None = None
    aside: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a caption, a header, and for each column whether it holds numbers."""

    caption: str
    header: list[str]
    numeric: list[bool]
    rows: list[list[Cell]]


Format = Callable[[Any], str]


def share(value: float) -> str:
    """A share in [0, 1] with three digits."""
    return f"{value:.3f}"


def signed(value: float) -> str:
    """A difference with its sign and three digits."""
    return f"{value:+.3f}"


def percent(value: float) -> str:
    """A share in [0, 1] as per cent."""
    return f"{value:.1%}"


def count(value: float) -> str:
    """A whole number with separators."""
    return f"{int(value):,}"


def decimal(digits: int) -> Format:
    """A number with so many digits behind the point."""
    return lambda value: f"{value:,.{digits}f}"


def p_value(value: float) -> str:
    """A p-value; small ones by their bound."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def make_table(
    caption: str,
    frame: pd.DataFrame,
    formats: Mapping[str, Format],
    titles: Mapping[str, str] | None = None,
) -> Table:
    """A table of a frame's columns.

    Args:
        caption: what it shows.
        frame: what it shows; missing values become a dash.
        formats: of the numeric columns; the others stand as text.
        titles: of columns, where another than the name with spaces.
    """
    columns = list(frame.columns)
    header = [(titles or {}).get(c, str(c).replace("_", " ")) for c in columns]
    rows = [
        [_cell(value, formats.get(c)) for c, value in zip(columns, row, strict=True)]
        for row in frame.itertuples(index=False, name=None)
    ]
    return Table(caption, header, [c in formats for c in columns], rows)


def _cell(value: Any, text: Format | None) -> Cell:
    if pd.isna(value) or value == "":
        return Cell(EMPTY)
    return Cell(str(value)) if text is None else Cell(text(value), float(value))


def with_interval(value: float, low: float, high: float) -> Cell:
    """A share with its interval, sorted by the share."""
    if pd.isna(value):
        return Cell(EMPTY)
    aside = "" if pd.isna(low) else f"[{low:.3f}, {high:.3f}]"
    return Cell(share(value), float(value), aside)


def crossed(
    caption: str, first: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]
) -> Table:
    """A table whose first column is text and whose others are numbers."""
    return Table(
        caption, [first, *header], [False, *([True] * len(header))], [list(r) for r in rows]
    )
