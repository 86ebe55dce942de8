"""The report's tables and charts of the data: raw images, crops, copies, splits."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from stages.core.sections import TASKS
from stages.reporting import charts
from stages.reporting.tables import TASK_TITLES, Cell, Table, count, crossed, make_table, percent
from stages.reporting.theme import CELL, Figure, make_figure

# Of the published run, on the 24,109 in-the-wild images.
PUBLISHED_OUTCOMES = {"cropped": 23561, "no_face": 521, "unreadable": 23, "bad_label": 4}
_COPIES = {
    "groups": "pictures that occur more than once (groups)",
    "images_in_groups": "images in these groups",
    "images_in_largest_group": "images in the largest group",
    "groups_of_identical_images": "groups with identical crops",
    "pairs": "pairs of copies",
    "pairs_mirrored": "of these, mirrored",
    "conflicting_groups": "groups whose labels disagree (conflicting)",
    "conflicting_images": "images in conflicting groups",
    "conflicting_pairs": "pairs whose labels disagree",
}


def outcomes_table(outcomes: Mapping[str, Any], beside_published: bool) -> Table:
    """Raw images by outcome, of metrics/detect.json; also those of the published run."""
    there = pd.Series(PUBLISHED_OUTCOMES | {"all": sum(PUBLISHED_OUTCOMES.values())})
    here = pd.Series({**outcomes, "all": outcomes["members"]})[there.index]
    columns = {"images": here, "share": here / max(here["all"], 1)}
    if beside_published:
        columns |= {"published run": there, "its share": there / there["all"]}
    rows = pd.DataFrame(columns).rename_axis("outcome").reset_index().replace("_", " ", regex=True)
    formats = {"images": count, "share": percent, "published run": count, "its share": percent}
    return make_table("Outcomes of the raw images", rows, formats)


def sample_figures(samples: pd.DataFrame) -> list[Figure]:
    """The crops by task, by year of age, and by pairs of tasks; see `report.render_report`."""
    figures = []
    for task in TASKS:
        counts = class_counts(samples, task)
        words = ", ".join(f"{r.images:,} {getattr(r, task)}" for r in counts.itertuples())
        chart = charts.class_bars(task, TASK_TITLES[task].lower())
        figures.append(make_figure(TASK_TITLES[task], words, chart, counts, 170))
    years = samples.groupby(["years", "gender"], observed=True).size().reset_index(name="images")
    ages = samples["years"]
    words = f"{ages.min()} to {ages.max()} years; the median age is {ages.median():g}"
    figures.append(make_figure("Age and gender", words, charts.age_histogram(), years, 230))
    for x, y in (("age", "race"), ("gender", "race")):
        counts = samples.groupby([y, x], observed=False).size().reset_index(name="images")
        least = counts.nsmallest(1, "images").iloc[0]
        words = f"The smallest group is {least[y]}, {least[x]}: {least['images']:,} images"
        title = f"{TASK_TITLES[y]} and {TASK_TITLES[x].lower()}"
        height = CELL * counts[y].nunique()
        figures.append(make_figure(title, words, charts.count_map(x, y), counts, height))
    return figures


def class_counts(samples: pd.DataFrame, task: str) -> pd.DataFrame:
    """Images of each class of a task: columns <task>, images, share."""
    counts = samples[task].value_counts(sort=False).rename_axis(task).reset_index(name="images")
    return counts.assign(share=counts["images"] / max(len(samples), 1))


def copies_table(split: Mapping[str, Any]) -> Table:
    """Copies and conflicting labels. `split`: the content of metrics/split.json."""
    rows = [[Cell(words), Cell(count(split[key]), split[key])] for key, words in _COPIES.items()]
    return crossed("Copies of a picture", "what was found", ["number"], rows)


def split_shares(samples: pd.DataFrame, splits: Sequence[str]) -> pd.DataFrame:
    """Images by task, class and split: columns task, class, split, images, share (of the split)."""
    parts = []
    for task in TASKS:
        counts = pd.crosstab(samples[task].rename("class"), samples["split"], dropna=False)
        counts = counts.reindex(columns=pd.Index(splits, name="split"), fill_value=0)
        shares = counts / counts.sum().clip(lower=1)
        part = pd.DataFrame({"images": counts.stack(), "share": shares.stack()}).reset_index()
        parts.append(part.astype({"class": str}).assign(task=task))
    return pd.concat(parts, ignore_index=True)[["task", "class", "split", "images", "share"]]


def split_table(samples: pd.DataFrame, splits: Sequence[str]) -> Table:
    """Images of each class in each split, and their share of the split."""
    sizes = samples["split"].value_counts().reindex(list(splits), fill_value=0)
    total = pd.DataFrame({"images": sizes, "share": sizes / len(samples)}).reset_index()
    table = pd.concat([split_shares(samples, splits), total.assign(task="all", **{"class": ""})])
    rows = []
    for (task, name), part in table.groupby(["task", "class"], sort=False):
        cells = [Cell(f"{task}: {name}" if name else "all images")]
        for images, portion in part[["images", "share"]].itertuples(index=False):
            cells += [Cell(count(images), int(images)), Cell(percent(portion), float(portion))]
        rows.append(cells)
    header = [words for split in splits for words in (split, f"{split} share")]
    return crossed("Images of each class in each split", "class", header, rows)


def split_figures(samples: pd.DataFrame, splits: Sequence[str]) -> list[Figure]:
    """A chart for each task that compares the splits."""
    table = split_shares(samples, splits)
    figures = []
    for task, part in table.groupby("task", sort=False):
        shares = part.pivot_table("share", "class", "split", sort=False)
        apart = float((shares.max(axis=1) - shares.min(axis=1)).max())
        words = f"A class's share differs by at most {100 * apart:.1f} points between splits"
        title = f"{TASK_TITLES[str(task)]}s by split"
        figures.append(make_figure(title, words, charts.split_shares(), part, 170))
    return figures


def conflicting_groups(
    conflicting: pd.DataFrame, classes: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """The conflicting images with class names: group, name, age (years), gender, race, split."""
    table = conflicting[["group", "name", "age", "gender", "race", "split"]].copy()
    for task in ("gender", "race"):
        table[task] = table[task].astype(int).map(dict(enumerate(classes[task])))
    return table
