"""Why the published protocol gives higher figures, as arithmetic.

Of a run under it, the test images that had been trained on (`trained_on` in its predictions)
are told from the others: accuracy = share seen x accuracy on seen + share unseen x accuracy on
unseen.
"""

from pathlib import Path

import pandas as pd

from stages.workspace.files import read_csv
from stages.workspace.params import TASKS
from stages.workspace.plans import PUBLISHED_SPLIT, run_name

COLUMNS = (
    *("variant", "task", "images", "seen_share", "seen_accuracy", "unseen_accuracy"),
    *("rerun_accuracy", "honest_accuracy", "expected_accuracy"),
)


def explain_gap(predictions: Path, comparison: pd.DataFrame) -> pd.DataFrame:
    """Take the accuracy under the published protocol apart, for each rerun variant and task.

    Args:
        predictions: folder of <run>.csv.
        comparison: as `compare` gives it.

    Returns:
        Columns variant, task, images (tested under the published protocol), seen_share,
        seen_accuracy, unseen_accuracy (empty without such images), rerun_accuracy,
        honest_accuracy, and expected_accuracy: seen_share x seen_accuracy + the rest x
        honest_accuracy. All shares in [0, 1].

    Raises:
        UserError: a prediction file is missing or lacks a column.
    """
    rows = []
    for _, row in comparison.iterrows():
        tasks = [task for task in TASKS if pd.notna(row[f"rerun_{task}_accuracy"])]
        if not tasks:
            continue
        file = predictions / f"{run_name(row['variant'], PUBLISHED_SPLIT)}.csv"
        texts = [f"{task}_{what}" for task in tasks for what in ("true", "predicted")]
        types = dict.fromkeys(texts, "str")
        frame = read_csv(file, ["trained_on", *texts], "repeat", dtype=types)
        seen = frame["trained_on"] == 1
        share = float(seen.mean())
        for task in tasks:
            right = frame[f"{task}_true"] == frame[f"{task}_predicted"]
            on_seen, on_unseen = float(right[seen].mean()), float(right[~seen].mean())
            honest = row[f"{task}_accuracy"]
            known = share * on_seen if share else 0.0
            values = (row["variant"], task, len(frame), share, on_seen, on_unseen)
            rows.append((*values, float(right.mean()), honest, known + (1 - share) * honest))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def in_words(gap: pd.DataFrame) -> list[str]:
    """The gap of each variant in two sentences (Markdown), with the numbers of `explain_gap`."""
    return [_sentences(name, rows) for name, rows in gap.groupby("variant", sort=False)]


def _sentences(variant: object, rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    seen, unseen = first["seen_share"], 1 - first["seen_share"]

    def listed(other: str, result: str) -> str:
        sums = []
        for _, row in rows.iterrows():
            terms = ((seen, row["seen_accuracy"]), (unseen, row[other]))
            products = " + ".join(f"{share:.3f} × {value:.3f}" for share, value in terms if share)
            sums.append(f"{row['task']} {products} = {row[result]:.3f}")
        return ", ".join(sums)

    honest = ", ".join(f"{row['task']} {row['honest_accuracy']:.3f}" for _, row in rows.iterrows())
    return (
        f"Under the published protocol `{variant}` had been trained on {seen:.1%} of its "
        f"{first['images']:,} test images; share seen × accuracy on those + share unseen × "
        f"accuracy on the others is its accuracy there: "
        f"{listed('unseen_accuracy', 'rerun_accuracy')}. With the honest accuracy for the others "
        f"it is {listed('honest_accuracy', 'expected_accuracy')}; the honest accuracy itself is "
        f"{honest}."
    )


def as_markdown(gap: pd.DataFrame) -> str:
    """The sentences of all variants, a paragraph each; nothing without a rerun."""
    return "".join(f"\n{paragraph}\n" for paragraph in in_words(gap))
