"""What each ingredient of a variant is worth: its search one by one, as a table and bars.

All figures are of validation images; the test images are not looked at.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.comparison.search_table import (
    BEST,
    SCORE,
    as_markdown,
    count_states,
    search_rows,
    setting_text,
)
from stages.tuning.searches import Combination

CHANGE, DIFFERENCE = "change", "difference"
UNCHANGED = "as it is"
NOTE = (
    "Shares of the validation images, in [0, 1], at each training's best epoch; score: the mean "
    "over the tasks, weighted as in train.task_weights; difference: of the score, to the variant "
    "as it is. One training each: another seed moves a score too."
)
_BETTER, _WORSE, _ABSENT = "#2a7f62", "#b5482a", "#888888"


def tabulate_changes(
    combinations: Sequence[Combination],
    states: Mapping[str, str],
    summaries: Mapping[str, Mapping[str, Any]],
) -> pd.DataFrame:
    """One row per change, the variant as it is first.

    Args:
        combinations: of a search that varies its params one by one.
        states: of the experiments, by name.
        summaries: what the finished trainings wrote, by name.

    Returns:
        Columns experiment, state, change, val_score, difference (to the variant as it is; empty
        where one of the two is not finished), <task>_val_accuracy, best_epoch, epochs and mark
        (`best` or empty).
    """
    table = search_rows(combinations, states, summaries)
    table.insert(2, CHANGE, [setting_text(c.setting) or UNCHANGED for c in combinations])
    difference = table[SCORE] - table[SCORE].iloc[0]
    difference.iloc[0] = np.nan
    table.insert(4, DIFFERENCE, difference)
    scores = table[SCORE].to_numpy(float)
    best = None if np.isnan(scores).all() else int(np.nanargmax(scores))
    return table.assign(mark=[BEST if n == best else "" for n in range(len(table))])


def describe_changes(table: pd.DataFrame) -> str:
    """How far the search is, what the variant reaches as it is, and the best change."""
    lines = [count_states(table)]
    first, changed = table.iloc[0], table[table[DIFFERENCE].notna()]
    if pd.isna(first[SCORE]):
        return "\n".join([*lines, f"{UNCHANGED}: not finished"])
    lines.append(f"{UNCHANGED}: {first[SCORE]:.4f}")
    if not changed.empty:
        top = changed.loc[changed[DIFFERENCE].idxmax()]
        lines.append(f"best change: {top[CHANGE]}: {top[DIFFERENCE]:+.4f}")
    return "\n".join(lines)


def changes_as_markdown(table: pd.DataFrame, title: str) -> str:
    """The table with its summary before it and a note on its figures behind it."""
    signed = table[DIFFERENCE].map("{:+.4f}".format, na_action="ignore")
    return as_markdown(table.assign(**{DIFFERENCE: signed}), title, describe_changes(table), NOTE)


def draw_changes(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw each change's difference as a bar, in the order of the table, as a PNG."""
    rows = table.iloc[1:]
    figure = Figure(figsize=(7.5, 1.4 + 0.34 * max(len(rows), 1)), layout="constrained")
    axes = figure.subplots()
    differences = rows[DIFFERENCE].to_numpy(float)
    places = range(len(rows))
    colours = [_BETTER if value > 0 else _WORSE for value in differences]
    axes.barh(places, np.nan_to_num(differences), color=colours)
    reach = max(np.nanmax(np.abs(differences), initial=0), 0.001)
    for place, (value, state) in enumerate(zip(differences, rows["state"], strict=True)):
        if np.isnan(value):
            axes.text(0, place, f" {state}", va="center", color=_ABSENT, size=8)
            continue
        side, gap = ("left", 0.03) if value >= 0 else ("right", -0.03)
        axes.text(value + gap * reach, place, f"{value:+.4f}", ha=side, va="center", size=9)
    axes.set_yticks(places, rows[CHANGE].tolist())
    axes.set_xlim(-1.35 * reach, 1.35 * reach)
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    base = table[SCORE].iloc[0]
    known = "" if np.isnan(base) else f" ({base:.4f})"
    axes.set_xlabel(f"validation score, difference to the variant as it is{known}")
    axes.set_title(title)
    figure.savefig(path, dpi=120, format="png", metadata={"Software": None})
