"""The results in a few sentences, for readers who read no further."""

from collections.abc import Iterator

import pandas as pd

from stages.core.sections import TASKS
from stages.evaluation.scores import COMBINED
from stages.reporting.results import Results


def summarise(results: Results, samples: pd.DataFrame, confidence: float) -> Iterator[str]:
    """The best model first, then the data; a sentence each."""
    detected, split, audit = results.detected, results.split, results.audit
    # Combined scores of models of different tasks are not comparable.
    most = max(len(run.predictions.tasks) for run in results.runs.values())
    compared = [name for name, run in results.runs.items() if len(run.predictions.tasks) == most]
    best = max(compared, key=lambda name: results.runs[name].score(COMBINED, "score")[0])
    run = results.runs[best]
    scores = []
    for task in run.predictions.tasks:
        value, low, high = run.score(task, "accuracy")
        scores.append(f"{task} {value:.3f} [{low:.3f}, {high:.3f}]")
    yield (
        f"{best} has the highest combined score; its accuracies on {len(run.predictions.names):,} "
        f"test images, with {confidence:.0%} intervals: {', '.join(scores)}."
    )
    if len(results.runs) > 1:
        yield "The paired tests, not the order, show whether one variant is better than another."
    yield (
        f"{detected['members']:,} images, {detected['cropped']:,} of them cropped "
        f"({detected['cropped_percent']:g} %); {split['train']:,} for training, {split['val']:,} "
        f"for validation, {split['test']:,} for testing."
    )
    if split["groups"]:
        yield (
            f"{split['groups']:,} pictures occur more than once, "
            f"{split['conflicting_groups']:,} of them with contradicting labels; all copies of a "
            f"picture lie in one split."
        )
    yield (
        f"The audit of {audit['runs']:,} runs compared {audit['pairs_checked']:,} pairs of a test "
        f"image and a training or validation image and found {audit['leaks']:,} leaks."
    )
    groups = samples.groupby(list(TASKS), observed=False).size().reset_index(name="images")
    least = groups.nsmallest(1, "images").iloc[0]
    names = ", ".join(least[task] for task in TASKS)
    yield f"The smallest group by age, gender and race is {names}: {least['images']:,} crops."
