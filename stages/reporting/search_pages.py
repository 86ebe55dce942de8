"""A search as Markdown and as a picture: heat map of a grid, bars of an ablation."""

from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
from tabulate import tabulate

from stages.core.variants import Search
from stages.reporting import charts
from stages.reporting.tables import EMPTY
from stages.reporting.theme import CELL, ROW, Drawing, save
from stages.tuning.search_table import (
    CHANGE,
    DIFFERENCE,
    SCORE,
    SPREAD,
    UNCHANGED,
    setting_text,
)
from stages.tuning.searches import label

NOTE = (
    "Shares of the validation images, in [0, 1], at each training's best epoch; score: the mean "
    "over the tasks, weighted as in train.task_weights."
)
DIFFERENCE_NOTE = "difference: of the score, to the variant as it is"
ONE_SEED_NOTE = "One training each; another seed changes a score too."
_MARKS = {"best": " ★", "published": " ◆"}


def describe_search(table: pd.DataFrame, search: Search) -> list[str]:
    """Progress and the best setting of a search, or the best change of an ablation."""
    counts = table["state"].value_counts(sort=False)
    lines = [f"{len(table)} settings: " + ", ".join(f"{n} {s}" for s, n in counts.items())]
    if search.vary == "one-by-one":
        unchanged, changed = table[SCORE].iloc[0], table[table[DIFFERENCE].notna()]
        score = "not finished" if pd.isna(unchanged) else f"{unchanged:.4f}"
        lines.append(f"{UNCHANGED}: {score}")
        if not changed.empty:
            top = changed.loc[changed[DIFFERENCE].idxmax()]
            lines.append(f"best change: {top[CHANGE]}: {top[DIFFERENCE]:+.4f}")
        return lines
    done = table[table[SCORE].notna()].sort_values(SCORE, ascending=False, kind="stable")
    if done.empty:
        lines.append("best: none yet")
    else:
        best = done.iloc[0]
        lines.append(f"best: {setting_text(best[list(search.grid)])}: {best[SCORE]:.4f}")
    if search.published:
        marked = (place for place, mark in enumerate(done["mark"]) if "published" in mark)
        here = "not finished"
        if (place := next(marked, None)) is not None:
            here = f"{done[SCORE].iloc[place]:.4f}, place {place + 1} of {len(done)}"
        lines.append(f"published best: {setting_text(search.published)}: here {here}")
    return lines


def search_markdown(table: pd.DataFrame, search: Search, name: str) -> str:
    """A page: the summary, the table, and a note on its figures."""
    shown = table.drop(columns="experiment")
    for column, digits in ((DIFFERENCE, "{:+.4f}"), (SPREAD, "{:.4f}")):
        if column in shown:
            shown[column] = shown[column].map(digits.format, na_action="ignore")
    rows = [[_cell(value) for value in row] for row in shown.itertuples(index=False)]
    header = [name.replace("_val_accuracy", "").replace("_", " ") for name in shown]
    text = tabulate(rows, header, tablefmt="github", disable_numparse=True)
    points = "\n".join(f"- {line}" for line in describe_search(table, search))
    return f"# {_title(search, name)}\n\n{points}\n\n{text}\n\n{_note(search)}\n"


def _title(search: Search, name: str) -> str:
    return f"{name}: {search.variant}"


def _note(search: Search) -> str:
    ablation = search.vary == "one-by-one"
    parts = [NOTE[:-1], *([DIFFERENCE_NOTE] if ablation else [])]
    if search.seeds > 1:
        parts.append(f"means of {search.seeds} seeds; spread: the score's standard deviation")
    text = f"{'; '.join(parts)}."
    return f"{text} {ONE_SEED_NOTE}" if ablation and search.seeds == 1 else text


def _cell(value: Any) -> str:
    if pd.isna(value):
        return EMPTY
    return f"{value:.4f}" if isinstance(value, float) and value > 0.01 else label(value)


def search_chart(table: pd.DataFrame, search: Search) -> tuple[Drawing, pd.DataFrame, int]:
    """The chart of a search, its rows and its height in pixels.

    A heat map has the first param of the grid upwards and the second to the right; a cell holds
    the score with its marks, or the state of what is not finished.
    """
    if search.vary == "one-by-one":
        rows = table.iloc[1:][[CHANGE, "state", SCORE, DIFFERENCE]]
        error = 0.0
        if SPREAD in table:  # of two means: the root of the sum of their squared errors
            squared = table[SPREAD] ** 2 / search.seeds
            error = (squared.iloc[1:] + squared.iloc[0]).fillna(0.0) ** 0.5
        rows = rows.assign(low=rows[DIFFERENCE] - error, high=rows[DIFFERENCE] + error)
        return charts.change_bars(), rows, ROW * len(rows)
    grid = list(search.grid)
    up, right = grid if len(grid) > 1 else ("search", grid[0])
    rows = table[["experiment", "state", SCORE, "mark"]].copy()
    for param in (up, right):
        rows[param] = table[param].map(label) if param in table else ""
    signs = [
        "".join(sign for word, sign in _MARKS.items() if word in mark) for mark in rows["mark"]
    ]
    rows["text"] = rows["state"].where(rows[SCORE].isna(), rows[SCORE].map("{:.3f}".format) + signs)
    return charts.search_map(up, right), rows, CELL * rows[up].nunique()


def draw_search(table: pd.DataFrame, search: Search, name: str, path: Path) -> None:
    """Draw a search as a PNG file."""
    chart, rows, height = search_chart(table, search)
    subtitle = f"validation score; {UNCHANGED}: {table[SCORE].iloc[0]:.4f}"
    width: int | alt.Step = 420
    if search.vary != "one-by-one":
        subtitle = "validation score; solid frame: best here, dashed: best of the published"
        width = alt.Step(76)
        # Not every machine has a font with the signs; the frames mean the same.
        rows = rows.assign(text=rows["text"].str.rstrip("".join(_MARKS.values())))
    heading = alt.Title(
        _title(search, name), subtitle=subtitle, anchor="start", subtitleColor="#59636e"
    )
    save(chart.properties(width=width, height=height, title=heading), rows, path)
