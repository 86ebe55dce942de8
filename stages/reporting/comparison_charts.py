"""All runs side by side as SVG files: accuracy by protocol, and accuracy over training cost."""

from collections.abc import Sequence
from pathlib import Path

import altair as alt
import pandas as pd

from stages.comparison.table import KINDS
from stages.core.sections import TASKS
from stages.reporting import charts
from stages.reporting.theme import save

_PANEL, _ROW, _HEIGHT = 230, 19, 230  # width of a task's panel; height of a row and of a panel


def accuracy_rows(comparison: pd.DataFrame, kinds: Sequence[str] = tuple(KINDS)) -> pd.DataFrame:
    """The accuracies in one column, for `charts.accuracies`.

    Args:
        comparison: as `compare` returns it; rows of conditions are left out.
        kinds: of accuracies: `published`, `rerun`, `honest`.

    Returns:
        Columns variant, task, kind, accuracy, low, high (of honest ones, where known).
    """
    rows = [
        (
            *(row["variant"], task, kind, row[f"{KINDS[kind]}{task}_accuracy"]),
            *(row.get(f"{end}_{task}_accuracy") if kind == "honest" else None for end in _ENDS),
        )
        for row in comparison.to_dict(orient="records")
        if "+" not in row["variant"]
        for task in TASKS
        for kind in kinds
    ]
    table = pd.DataFrame(rows, columns=["variant", "task", "kind", "accuracy", *_ENDS])
    return table[table["accuracy"].notna()].astype(dict.fromkeys(_ENDS, float))


_ENDS = ("low", "high")


def draw_leak(path: Path, comparison: pd.DataFrame) -> None:
    """Draw the accuracies of each variant by protocol as an SVG file, the same bytes each time.

    Args:
        path: the file.
        comparison: as `compare` returns it; rows of conditions are left out.
    """
    rows = accuracy_rows(comparison)
    kinds = [kind for kind in KINDS if kind in set(rows["kind"])]
    panels = (
        charts.accuracies(kinds)
        .properties(width=_PANEL, height=alt.Step(_ROW))
        .facet(column=_by_task(), spacing=20)
    )
    save(panels, rows, path)


def draw_cost(path: Path, cost: pd.DataFrame) -> None:
    """Draw each task's accuracy over the cost of training as an SVG file.

    Args:
        path: the file.
        cost: as `accuracy_over_cost` returns it; runs of conditions are left out.
    """
    rows = cost[~cost["variant"].str.contains("+", regex=False)]
    legend = alt.Legend(orient="bottom", columns=3, symbolType="stroke")
    panels = (
        charts.accuracy_over_cost()
        .encode(color=alt.Color("variant:N", sort=None, title=None, legend=legend))
        .properties(width=_PANEL, height=_HEIGHT)
        .facet(column=_by_task())
        .resolve_scale(y="independent")
    )
    save(panels, rows, path)


def _by_task() -> alt.Column:
    return alt.Column("task:N", sort=list(TASKS), title=None)
