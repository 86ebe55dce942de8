"""Why the published protocol gives higher figures, as arithmetic.

Of a run under it, the test images that had been trained on (`trained_on` in its predictions)
are told from the others: accuracy = share seen x accuracy on seen + share unseen x accuracy on
unseen.
"""

from pathlib import Path

import pandas as pd
from tabulate import tabulate

from stages.core.files import read_csv
from stages.core.run_names import PUBLISHED_SPLIT
from stages.core.sections import TASKS

COLUMNS = (
    *("variant", "task", "images", "seen_share", "seen_accuracy", "unseen_accuracy"),
    *("rerun_accuracy", "honest_accuracy", "expected_accuracy"),
)


def explain_leakage(predictions: Path, comparison: pd.DataFrame) -> pd.DataFrame:
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
        file = predictions / f"{row['variant']}+{PUBLISHED_SPLIT}.csv"
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
    """The gap in two sentences (Markdown), with the numbers of the run where it is largest.

    Args:
        gap: as `explain_leakage` gives it; nothing is said of an empty one.
    """
    if gap.empty:
        return []
    row = gap.iloc[int((gap["rerun_accuracy"] - gap["honest_accuracy"]).argmax())]
    seen = row["seen_share"]

    def total(other: str, result: str) -> str:
        terms = ((seen, row["seen_accuracy"]), (1 - seen, row[other]))
        products = " + ".join(f"{share:.3f} × {value:.3f}" for share, value in terms if share)
        return f"{products} = {row[result]:.3f}"

    return [
        f"Under the published protocol accuracy is share seen × accuracy on the test images that "
        f"were trained on + share unseen × accuracy on the others, where that of "
        f"`{row['variant']}` in {row['task']} comes from, which had been trained on {seen:.1%} of "
        f"its {row['images']:,} test images: {total('unseen_accuracy', 'rerun_accuracy')}. With "
        f"its honest accuracy, {row['honest_accuracy']:.3f}, for the others the sum is "
        f"{total('honest_accuracy', 'expected_accuracy')}: what the honest figure loses is what "
        f"had been learnt by heart."
    ]


def as_markdown(gap: pd.DataFrame) -> str:
    """The sentences and a table of all variants; nothing without a rerun."""
    if gap.empty:
        return ""
    header = (
        *("variant", "task", "share seen", "accuracy on seen", "on the others"),
        *("together: rerun", "with honest for the others", "honest"),
    )
    numbers = (
        *("seen_share", "seen_accuracy", "unseen_accuracy"),
        *("rerun_accuracy", "expected_accuracy", "honest_accuracy"),
    )
    rows = [
        [f"`{row['variant']}`", row["task"], *(_share(row[name]) for name in numbers)]
        for _, row in gap.iterrows()
    ]
    table = tabulate(rows, header, tablefmt="github", disable_numparse=True)
    return "".join(f"\n{part}\n" for part in (*in_words(gap), table))


def _share(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.3f}"
