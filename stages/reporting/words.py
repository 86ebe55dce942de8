"""The results in a few sentences, for whoever reads no further."""

from collections.abc import Iterator

import pandas as pd

from stages.core.sections import TASKS
from stages.evaluation.scores import COMBINED
from stages.reporting.results import Results


def in_short(results: Results, people: pd.DataFrame, confidence: float) -> list[str]:
    """What was found, a sentence each."""
    return list(_sentences(results, people, confidence))


def _sentences(results: Results, people: pd.DataFrame, confidence: float) -> Iterator[str]:
    fates, divided, audit = results.fates, results.divided, results.audit
    yield (
        f"{fates['members']:,} images, {fates['cropped']:,} of them cropped "
        f"({fates['cropped_percent']:g} %); {divided['train']:,} to train, {divided['val']:,} to "
        f"validate, {divided['test']:,} to test."
    )
    if divided["groups"]:
        yield (
            f"Pictures that are there more than once: {divided['groups']:,}, "
            f"{divided['conflicting_groups']:,} of them under several classes; "
            f"all copies of a picture lie in one split."
        )
    yield (
        f"Over {audit['runs']:,} runs the audit compared {audit['pairs_checked']:,} pairs of a "
        f"test image and an image that was trained on or validated with: {audit['leaks']:,} leaks."
    )
    # Scores of models of different tasks are not of one kind.
    most = max(len(run.predictions.tasks) for run in results.runs.values())
    compared = [name for name, run in results.runs.items() if len(run.predictions.tasks) == most]
    best = max(compared, key=lambda name: results.runs[name].score(COMBINED, "score")[0])
    run = results.runs[best]
    scores = []
    for task in TASKS:
        if task in run.predictions.tasks:
            value, low, high = run.score(task, "accuracy")
            scores.append(f"{task} {value:.3f} [{low:.3f}, {high:.3f}]")
    yield (
        f"{best} has the highest combined score; its accuracies on {len(run.predictions.names):,} "
        f"test images, with {confidence:.0%} intervals: {', '.join(scores)}."
    )
    if len(results.runs) > 1:
        yield "Whether one is better than another is told by the paired tests, not by the order."
    cells = people.groupby(list(TASKS), observed=False).size().reset_index(name="images")
    least = cells.nsmallest(1, "images").iloc[0]
    cell = ", ".join(least[task] for task in TASKS)
    yield f"The smallest cell of age group, gender and race is {cell}: {least['images']:,} crops."
