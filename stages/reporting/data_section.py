"""The report's tables and charts of the data: fates, people, copies, splits."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from stages.core.sections import TASKS
from stages.reporting import charts as charts
from stages.reporting.tables import Cell, Table, count, crossed, make_table, percent
from stages.reporting.vega import Chart

# Of the published run, on the 24,109 in-the-wild images.
PUBLISHED_FATES = {"cropped": 23561, "no_face": 521, "unreadable": 23, "bad_label": 4}
FATES = {
    "cropped": "cropped",
    "no_face": "no face",
    "unreadable": "unreadable",
    "bad_label": "bad label",
}
_COPIES = {
    "groups": "pictures that are there more than once (groups)",
    "images_in_groups": "images in these groups",
    "images_in_largest_group": "images in the largest group",
    "groups_of_identical_images": "groups that hold identical crops",
    "pairs": "pairs of copies",
    "pairs_mirrored": "of these, mirrored",
    "conflicting_groups": "groups whose labels disagree (conflicting)",
    "conflicting_images": "images in conflicting groups",
    "conflicting_pairs": "pairs whose labels disagree",
}


def fates_table(fates: Mapping[str, Any]) -> Table:
    """What became of the raw images, here and in the published run.

    Args:
        fates: the content of metrics/detect.json.
    """
    total = sum(PUBLISHED_FATES.values())
    rows = [
        _fate(words, fates[fate], fates["members"], PUBLISHED_FATES[fate], total)
        for fate, words in FATES.items()
    ]
    rows.append(_fate("all", fates["members"], fates["members"], total, total))
    header = ["images", "share", "published run", "its share"]
    return crossed("What became of the raw images", "fate", header, rows)


def _fate(words: str, here: int, all_here: int, there: int, all_there: int) -> list[Cell]:
    numbers = [(here, all_here), (there, all_there)]
    cells = [Cell(words)]
    for number, total in numbers:
        share = number / max(total, 1)
        cells += [Cell(count(number), number), Cell(percent(share), share)]
    return cells


def sample_charts(people: pd.DataFrame) -> list[Chart]:
    """Who is in the crops: by task, by year of age, and by pairs of tasks.

    Args:
        people: a row for each crop: years, and age, gender and race as ordered categories.
    """
    titles = {"age": "Age group", "gender": "Gender", "race": "Race"}
    found = []
    for task in TASKS:
        counts = class_counts(people, task)
        words = ", ".join(f"{r.images:,} {getattr(r, task)}" for r in counts.itertuples())
        found.append(Chart(titles[task], words, charts.bars(counts, task, titles[task].lower())))
    years = people.groupby(["years", "gender"], observed=True).size().reset_index(name="images")
    spread = f"{people['years'].min()} to {people['years'].max()} years"
    median = f"half of the people are {people['years'].median():g} or younger"
    found.append(Chart("Age and gender", f"{spread}; {median}", charts.age_histogram(years)))
    for x, y in (("age", "race"), ("gender", "race")):
        counts = people.groupby([y, x], observed=False).size().reset_index(name="images")
        least = counts.nsmallest(1, "images").iloc[0]
        words = f"The smallest cell is {least[y]}, {least[x]}: {least['images']:,} images"
        found.append(
            Chart(f"{titles[y]} and {titles[x].lower()}", words, charts.cells(counts, x, y))
        )
    return found


def class_counts(people: pd.DataFrame, task: str) -> pd.DataFrame:
    """Images of each class of a task: columns <task>, images, share."""
    counts = people[task].value_counts(sort=False).rename_axis(task).reset_index(name="images")
    return counts.assign(share=counts["images"] / max(len(people), 1))


def copies_table(divided: Mapping[str, Any]) -> Table:
    """What was found of copies. `divided`: the content of metrics/split.json."""
    rows = [
        [Cell(words), Cell(count(divided[key]), divided[key])] for key, words in _COPIES.items()
    ]
    return crossed("Copies of a picture", "what was found", ["number"], rows)


def splits_of(people: pd.DataFrame, splits: Sequence[str]) -> pd.DataFrame:
    """Images by task, class and split: columns task, class, split, images, share (of the split)."""
    rows = []
    for task in TASKS:
        counts = pd.crosstab(people[task], people["split"], dropna=False)
        counts = counts.reindex(columns=list(splits), fill_value=0)
        for name in counts.index:
            for split in splits:
                images, all_of_split = counts.at[name, split], counts[split].sum()
                rows.append((task, str(name), split, images, images / max(all_of_split, 1)))
    return pd.DataFrame(rows, columns=["task", "class", "split", "images", "share"])


def split_table(people: pd.DataFrame, splits: Sequence[str]) -> Table:
    """Images of each class in each split, and the share of the split."""
    table = splits_of(people, splits)
    rows = []
    for (task, name), part in table.groupby(["task", "class"], sort=False):
        by_split = part.set_index("split")
        cells = [Cell(f"{task}: {name}")]
        for split in splits:
            images, share = by_split.loc[split, ["images", "share"]]
            cells += [Cell(count(images), int(images)), Cell(percent(share), float(share))]
        rows.append(cells)
    sizes = people["split"].value_counts()
    last = [Cell("all images")]
    for split in splits:
        images = int(sizes.get(split, 0))
        last += [
            Cell(count(images), images),
            Cell(percent(images / len(people)), images / len(people)),
        ]
    header = [words for split in splits for words in (split, f"{split} share")]
    return crossed("Images of each class in each split", "class", header, [*rows, last])


def split_charts(people: pd.DataFrame, splits: Sequence[str]) -> list[Chart]:
    """A chart for each task: are the splits alike?"""
    table = splits_of(people, splits)
    words = {"age": "Age groups", "gender": "Genders", "race": "Races"}
    found = []
    for task in TASKS:
        part = table[table["task"] == task]
        shares = part.pivot_table("share", "class", "split", sort=False)
        apart = float((shares.max(axis=1) - shares.min(axis=1)).max())
        said = f"A class's share differs by {100 * apart:.1f} points at most between splits"
        found.append(Chart(f"{words[task]} by split", said, charts.split_shares(part)))
    return found


def conflicting_groups(
    conflicting: pd.DataFrame, classes: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """The conflicting images with class names: group, name, age (years), gender, race, split."""
    named = {
        task: conflicting[task].astype(int).map(dict(enumerate(classes[task])))
        for task in ("gender", "race")
    }
    return conflicting.assign(**named)[["group", "name", "age", "gender", "race", "split"]]


def conflicting_table(conflicting: pd.DataFrame) -> Table:
    """The same as a table."""
    caption = "Pictures that stand under several classes"
    return make_table(caption, conflicting, {"group": str, "age": str})
