"""A search's experiments as a table, a heat map and the best setting.

All figures are of validation images; what a search chooses has not seen the test images.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from tabulate import tabulate

from stages.tuning.searches import Combination, label

SCORE, BEST = "val_score", "best"
NOTE = (
    "Shares of the validation images, in [0, 1], at each training's best epoch; score: the mean "
    "over the tasks, weighted as in train.task_weights."
)
_MISSING = "#e6e6e6"
_BRIGHT = 0.6  # of the colours' range: black text from here on
_FRAMES: dict[str, tuple[float, str, Literal["-", "--"]]] = {
    "best": (0.03, "#d62728", "-"),
    "published": (0.1, "#111111", "--"),
}


def tabulate_search(
    combinations: Sequence[Combination],
    states: Mapping[str, str],
    summaries: Mapping[str, Mapping[str, Any]],
    published: Mapping[str, object],
) -> pd.DataFrame:
    """One row per combination, in the order of the grid.

    Args:
        combinations: of the search.
        states: of the experiments, by name; the others are told as `not queued`.
        summaries: what the finished trainings wrote, by name.
        published: the setting found best by the published project; empty: none.

    Returns:
        Columns experiment, state, one for each param of the grid, val_score,
        <task>_val_accuracy, best_epoch, epochs (empty where it is not finished) and mark:
        `best`, `published`, `best, published` or empty.
    """
    table = search_rows(combinations, states, summaries)
    for place, param in enumerate(combinations[0].setting, 2):
        table.insert(place, param, [c.setting[param] for c in combinations])
    scores = table[SCORE].to_numpy(float)
    best = None if np.isnan(scores).all() else int(np.nanargmax(scores))
    marks = []
    for number, combination in enumerate(combinations):
        theirs = bool(published) and published.items() <= combination.setting.items()
        told = {BEST: number == best, "published": theirs}
        marks.append(", ".join(mark for mark, meant in told.items() if meant))
    return table.assign(mark=marks)


def search_rows(
    combinations: Sequence[Combination],
    states: Mapping[str, str],
    summaries: Mapping[str, Mapping[str, Any]],
) -> pd.DataFrame:
    """One row per combination: experiment, state, and the figures of what is finished."""
    rows = []
    for combination in combinations:
        summary = dict(summaries.get(combination.name, {}))
        accuracies = summary.pop("val_accuracy", {})
        rows.append(
            {
                "experiment": combination.name,
                "state": states.get(combination.name, "not queued"),
                SCORE: summary.get(SCORE, np.nan),
                **{f"{task}_val_accuracy": value for task, value in accuracies.items()},
                "best_epoch": summary.get("best_epoch"),
                "epochs": summary.get("epochs"),
            }
        )
    table = pd.DataFrame(rows).astype({"best_epoch": "Int64", "epochs": "Int64"})
    last = ["best_epoch", "epochs"]
    return table[[column for column in table if column not in last] + last]


def count_states(table: pd.DataFrame) -> str:
    """How many settings are in which state."""
    counts = table["state"].value_counts(sort=False)
    return f"{len(table)} settings: " + ", ".join(f"{n} {state}" for state, n in counts.items())


def describe(table: pd.DataFrame, grid: Sequence[str], published: Mapping[str, object]) -> str:
    """How far the search is, its best setting and the published one, in a few lines."""
    lines = [count_states(table)]
    done = table[table[SCORE].notna()].sort_values(SCORE, ascending=False, kind="stable")
    if done.empty:
        lines.append("best: none yet")
    else:
        best = done.iloc[0]
        lines.append(f"best: {setting_text(best[list(grid)])}: {best[SCORE]:.4f}")
    if published:
        rank = done["mark"].str.contains("published").to_numpy().nonzero()[0]
        here = (
            f"here {done.iloc[rank[0]][SCORE]:.4f}, place {rank[0] + 1} of {len(done)}"
            if len(rank)
            else "here not finished"
        )
        lines.append(f"published best: {setting_text(published)}: {here}")
    return "\n".join(lines)


def as_markdown(table: pd.DataFrame, title: str, summary: str, note: str = NOTE) -> str:
    """The table with its summary before it and a note on its figures behind it."""
    shown = table.drop(columns="experiment")
    rows = [[_cell(value) for value in row] for row in shown.itertuples(index=False)]
    header = [name.replace("_val_accuracy", "").replace("_", " ") for name in shown]
    text = tabulate(rows, header, tablefmt="github", disable_numparse=True)
    points = "\n".join(f"- {line}" for line in summary.splitlines())
    return f"# {title}\n\n{points}\n\n{text}\n\n{note}\n"


def draw_heat_map(table: pd.DataFrame, grid: Sequence[str], title: str, path: Path) -> None:
    """Draw the score over the grid as a PNG: its first param upwards, its second to the right.

    What is not finished is grey and tells its state.
    """
    down, right = (grid[0], grid[1]) if len(grid) > 1 else (None, grid[0])
    rows = list(table[down].unique()) if down else [""]
    columns = list(table[right].unique())
    scores = table[SCORE].to_numpy(float).reshape(len(rows), len(columns))
    figure = Figure(figsize=(1.6 + 1.1 * len(columns), 1.7 + 0.8 * len(rows)), layout="constrained")
    axes = figure.subplots()
    colours = matplotlib.colormaps["viridis"].with_extremes(bad=_MISSING)
    image = axes.imshow(np.ma.masked_invalid(scores), colours, aspect="auto", origin="lower")
    axes.set_xticks(range(len(columns)), [label(value) for value in columns])
    axes.set_yticks(range(len(rows)), [label(value) for value in rows])
    axes.set_xlabel(right.replace("_", " "))
    axes.set_ylabel(down.replace("_", " ") if down else "")
    axes.set_title(title)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    frames: dict[str, Rectangle] = {}
    for number, (state, mark) in enumerate(zip(table["state"], table["mark"], strict=True)):
        y, x = divmod(number, len(columns))
        text, colour, size = str(state), "#555555", 8
        if not np.isnan(score := scores[y, x]):
            text, size = f"{score:.3f}", 10
            low, high = np.nanmin(scores), np.nanmax(scores)
            colour = "black" if score - low > _BRIGHT * (high - low) else "white"
        axes.text(x, y, text, ha="center", va="center", size=size, color=colour)
        for word, (inset, edge, style) in _FRAMES.items():
            if word in mark:
                corner, side = (x - 0.5 + inset, y - 0.5 + inset), 1 - 2 * inset
                frame = Rectangle(
                    corner, side, side, edgecolor=edge, linestyle=style, linewidth=2.5, fill=False
                )
                frame.set_path_effects([withStroke(linewidth=5, foreground="white")])
                axes.add_patch(frame)
                frames[word] = frame
    if frames:
        names = [{"best": "best here", "published": "published best"}[word] for word in frames]
        handles = list(frames.values())
        figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    if not np.isnan(scores).all():
        figure.colorbar(image, label="validation accuracy")
    figure.savefig(path, dpi=120, format="png", metadata={"Software": None})


def setting_text(setting: Any) -> str:
    """The values of params by their names, as one line."""
    return ", ".join(f"{key} {label(value)}" for key, value in setting.items())


def _cell(value: Any) -> str:
    if pd.isna(value):
        return "-"
    return f"{value:.4f}" if isinstance(value, float) and value > 0.01 else label(value)
