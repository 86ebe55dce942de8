"""A search's experiments as a table: one row for each setting, or for each change of an ablation.

Of several seeds a row has the mean over those that are finished, and `spread`, their standard
deviation, in place of best_epoch and epochs.

All figures are of validation images; searches do not use the test images.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from stages.core.variants import Setting
from stages.tuning.searches import Combination, label

SCORE, SPREAD, CHANGE, DIFFERENCE = "val_score", "spread", "change", "difference"
LAST = ["best_epoch", "epochs"]
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
    settings, table = _rows(combinations, states, summaries)
    for place, param in enumerate(settings[0], 2):
        table.insert(place, param, [setting[param] for setting in settings])
    marks = _mark_best(table)
    for number, setting in enumerate(settings):
        if published and published.items() <= setting.items():
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
    settings, table = _rows(combinations, states, summaries)
    table.insert(2, CHANGE, [setting_text(setting) or UNCHANGED for setting in settings])
    difference = table[SCORE] - table[SCORE].iloc[0]
    difference.iloc[0] = np.nan
    place = list(table).index(SPREAD if SPREAD in table else SCORE) + 1
    table.insert(place, DIFFERENCE, difference)
    return table.assign(mark=_mark_best(table))


def _rows(
    combinations: Sequence[Combination],
    states: Mapping[str, str],
    summaries: Mapping[str, Mapping[str, Any]],
) -> tuple[list[Setting], pd.DataFrame]:
    """The settings, and a row for each."""
    settings, rows = [], []
    for _, same in groupby(combinations, lambda each: each.setting):
        seeds = list(same)
        settings.append(seeds[0].setting)
        state, *others = {states.get(each.name, "not queued") for each in seeds}
        found = [summaries[each.name] for each in seeds if each.name in summaries]
        if others:
            state = "partly finished"
        row: dict[str, Any] = {"experiment": seeds[0].name, "state": state} | _means(found)
        if len(seeds) == 1:
            row |= {key: found[0][key] if found else None for key in LAST}
        else:
            row[SPREAD] = np.std([each[SCORE] for each in found], ddof=1) if found[1:] else np.nan
        rows.append(row)
    table = pd.DataFrame(rows)
    first = [name for name in ("experiment", "state", SCORE, SPREAD) if name in table]
    last = [name for name in LAST if name in table]
    between = [name for name in table if name not in first + last]
    return settings, table[first + between + last].astype(dict.fromkeys(last, "Int64"))


def _means(summaries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of the scores and accuracies of trainings; of none, a score that is missing."""
    figures = [
        {SCORE: each[SCORE]} | {f"{t}_val_accuracy": v for t, v in each["val_accuracy"].items()}
        for each in summaries
    ]
    return {SCORE: np.nan} | pd.DataFrame(figures).mean().to_dict()


def _mark_best(table: pd.DataFrame) -> list[str]:
    best = table[SCORE].idxmax() if table[SCORE].notna().any() else None
    return ["best" if row == best else "" for row in table.index]


def setting_text(setting: Any) -> str:
    """The values of params by their names, as one line."""
    return ", ".join(f"{key} {label(value)}" for key, value in setting.items())
