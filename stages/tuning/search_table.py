"""A search's experiments as a table: one row for each setting, or for each change of an ablation.

All figures are of validation images; searches do not use the test images.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stages.tuning.searches import Combination, label

SCORE, CHANGE, DIFFERENCE = "val_score", "change", "difference"
UNCHANGED = "as it is"


def tabulate_search(
    combinations: Sequence[Combination],
    states: Mapping[str, str],
    summaries: Mapping[str, Mapping[str, Any]],
    published: Mapping[str, object],
) -> pd.DataFrame:
    """One row for each setting, in the order of the grid.

    `states` and `summaries`, which the finished trainings wrote, are by an experiment's name;
    `published` is the setting that the published project found best, if any. The columns are
    experiment, state, one for each param of the grid, val_score, <task>_val_accuracy, best_epoch,
    epochs (empty unless finished) and mark: `best`, `published`, `best, published` or empty.
    """
    table = _rows(combinations, states, summaries)
    for place, param in enumerate(combinations[0].setting, 2):
        table.insert(place, param, [c.setting[param] for c in combinations])
    marks = _mark_best(table)
    for number, combination in enumerate(combinations):
        if published and published.items() <= combination.setting.items():
            marks[number] = ", ".join(filter(None, [marks[number], "published"]))
    return table.assign(mark=marks)


def tabulate_changes(
    combinations: Sequence[Combination],
    states: Mapping[str, str],
    summaries: Mapping[str, Mapping[str, Any]],
) -> pd.DataFrame:
    """One row for each change of an ablation; the first is the variant as it is.

    As `tabulate_search`, with the columns change and difference (of val_score, to the variant as it
    is; empty unless both are finished) in place of the params.
    """
    table = _rows(combinations, states, summaries)
    table.insert(2, CHANGE, [setting_text(c.setting) or UNCHANGED for c in combinations])
    difference = table[SCORE] - table[SCORE].iloc[0]
    difference.iloc[0] = np.nan
    table.insert(4, DIFFERENCE, difference)
    return table.assign(mark=_mark_best(table))


def _rows(
    combinations: Sequence[Combination],
    states: Mapping[str, str],
    summaries: Mapping[str, Mapping[str, Any]],
) -> pd.DataFrame:
    rows, last = [], ["best_epoch", "epochs"]
    for name in (combination.name for combination in combinations):
        summary = summaries.get(name, {})
        row = {"experiment": name, "state": states.get(name, "not queued")}
        row |= {SCORE: summary.get(SCORE, np.nan)} | {key: summary.get(key) for key in last}
        for task, accuracy in summary.get("val_accuracy", {}).items():
            row[f"{task}_val_accuracy"] = accuracy
        rows.append(row)
    table = pd.DataFrame(rows).astype(dict.fromkeys(last, "Int64"))
    return table[[column for column in table if column not in last] + last]


def _mark_best(table: pd.DataFrame) -> list[str]:
    best = table[SCORE].idxmax() if table[SCORE].notna().any() else None
    return ["best" if row == best else "" for row in table.index]


def setting_text(setting: Any) -> str:
    """The values of params by their names, as one line."""
    return ", ".join(f"{key} {label(value)}" for key, value in setting.items())
