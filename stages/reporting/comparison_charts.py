"""All runs side by side as SVG files: accuracy by protocol, and accuracy over training cost."""

import itertools
from pathlib import Path

import altair as alt
import pandas as pd

from stages.comparison.table import ENDS, KINDS
from stages.core.sections import TASKS
from stages.reporting import charts
from stages.reporting.theme import save

_BY_TASK = alt.Column("task:N", sort=list(TASKS), title=None)
_PANEL, _ROW, _HEIGHT = 230, 19, 230  # width of a task's panel; height of a row and of a panel


def accuracy_rows(comparison: pd.DataFrame, noise: pd.DataFrame) -> pd.DataFrame:
    """The rows of `charts.accuracies` for all tasks, with the intervals of honest ones.

    `noise` is what `label_noise` returns.
    """
    ceilings = 1 - noise.set_index("task")["wrong"].astype(float)
    rows = []
    for row in comparison[~comparison["variant"].str.contains("+", regex=False)].to_dict("records"):
        for task, kind in itertools.product(TASKS, KINDS):
            accuracy = row[f"{KINDS[kind]}{task}_accuracy"]
            ends = [row.get(f"{end}_{task}_accuracy") for end in ENDS]
            known = ends if kind == "honest" else [None, None]
            rows.append((row["variant"], task, kind, accuracy, *known))
    table = pd.DataFrame(rows, columns=["variant", "task", "kind", "accuracy", *ENDS])
    table["ceiling"] = table["task"].map(ceilings).astype(float)
    return table[table["accuracy"].notna()].astype(dict.fromkeys(ENDS, float))


def draw_leak(path: Path, comparison: pd.DataFrame, noise: pd.DataFrame) -> None:
    """Draw the accuracies of each variant as an SVG file, the same bytes each time."""
    rows = accuracy_rows(comparison, noise)
    kinds = [kind for kind in KINDS if kind in set(rows["kind"])]
    chart = charts.accuracies(kinds, len(kinds), not noise.empty)
    chart = chart.properties(width=_PANEL, height=alt.Step(_ROW))
    save(chart.facet(column=_BY_TASK, spacing=20), rows, path)


def draw_contrasts(path: Path, contrasts: pd.DataFrame, equivalence: float) -> None:
    """Draw the differences of contrasts, a panel for each task, as an SVG file."""
    chart = charts.differences(equivalence).properties(width=_PANEL, height=alt.Step(_ROW + 5))
    save(chart.facet(column=_BY_TASK, spacing=20), contrasts, path)


def draw_cost(path: Path, cost: pd.DataFrame) -> None:
    """Draw each task's accuracy over the cost of training as an SVG file."""
    rows = cost[~cost["variant"].str.contains("+", regex=False)]
    legend = alt.Legend(orient="bottom", columns=3, columnPadding=35, symbolType="stroke")
    colour = alt.Color("variant:N", sort=None, title=None, legend=legend)
    chart = charts.accuracy_over_cost().encode(color=colour)
    panels = chart.properties(width=_PANEL, height=_HEIGHT).facet(column=_BY_TASK)
    save(panels.resolve_scale(y="independent"), rows, path)
