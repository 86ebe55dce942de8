"""Disputed labels: planted wrong ones are found from the predictions of all folds."""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.comparison.label_issues import find_label_issues
from stages.core.files import write_csv

CLASSES = {"gender": ["male", "female"], "race": ["a", "b", "c"]}
IMAGES, FOLDS = 300, 3
WRONG = [f"{i}.jpg" for i in (7, 100, 250)]


def runs_of(variant: str) -> list[str]:
    return [f"{variant}+fold-{fold}" for fold in range(FOLDS)]


def write_folds(
    folder: Path,
    variant: str,
    tasks: list[str],
    strength: float = 4.0,
    class_names: dict[str, list[str]] = CLASSES,
):
    """Write predictions of a network that is right where a label is; those of WRONG are not."""
    generator = np.random.default_rng(len(variant))
    names = np.array([f"{i}.jpg" for i in range(IMAGES)])
    table = pd.DataFrame({"name": names})
    for task, classes in class_names.items():
        codes = np.arange(IMAGES) % len(classes)
        logits = generator.normal(0, 0.5, (IMAGES, len(classes)))
        # The network is surer of the images with a wrong label than of most of their class.
        logits[np.arange(IMAGES), codes] += strength + 2 * np.isin(names, WRONG)
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        given = np.where(np.isin(names, WRONG), (codes + 1) % len(classes), codes)
        table[f"{task}_true"] = np.array(classes)[given]
        if task in tasks:
            table[f"{task}_predicted"] = np.array(classes)[shares.argmax(axis=1)]
            table[[f"{task}_p_{name}" for name in classes]] = shares
    fold = generator.permutation(IMAGES) % FOLDS
    for number, run in enumerate(runs_of(variant)):
        write_csv(folder / f"{run}.csv", table[fold == number])


def test_planted_wrong_labels_are_found_with_the_class_that_was_seen(tmp_path):
    write_folds(tmp_path, "one", ["gender", "race"])
    issues = find_label_issues(tmp_path, [runs_of("one")], CLASSES)
    assert list(issues) == ["name", "task", "given", "suggested", "confidence"]
    for task in CLASSES:
        rows = issues[issues["task"] == task].set_index("name")
        assert sorted(rows.index) == sorted(WRONG)
        number = int(WRONG[1].removesuffix(".jpg"))
        seen = CLASSES[task][number % len(CLASSES[task])]
        assert rows.loc[WRONG[1], "suggested"] == seen != rows.loc[WRONG[1], "given"]
    assert issues["confidence"].is_monotonic_decreasing
    assert issues["confidence"].between(0.5, 1).all()


def test_several_variants_judge_together_each_by_its_tasks(tmp_path):
    write_folds(tmp_path, "one", ["gender", "race"])
    write_folds(tmp_path, "three", ["gender"], strength=0.0)  # knows nothing
    both = find_label_issues(tmp_path, [runs_of("one"), runs_of("three")], CLASSES)
    alone = find_label_issues(tmp_path, [runs_of("one")], CLASSES)
    race = [table[table["task"] == "race"].reset_index(drop=True) for table in (both, alone)]
    pd.testing.assert_frame_equal(*race)
    means = [t[t["task"] == "gender"]["confidence"].max() for t in (both, alone)]
    assert means[0] < means[1]


def test_class_names_may_look_like_numbers(tmp_path):
    numbers = {task: [str(i) for i in range(len(names))] for task, names in CLASSES.items()}
    write_folds(tmp_path, "one", ["gender", "race"], class_names=numbers)
    issues = find_label_issues(tmp_path, [runs_of("one")], numbers)
    assert sorted(issues["name"]) == sorted(WRONG * len(CLASSES))


def test_without_folds_nothing_is_disputed(tmp_path):
    issues = find_label_issues(tmp_path, [], CLASSES)
    assert issues.empty
    assert list(issues) == ["name", "task", "given", "suggested", "confidence"]
