"""Why the published protocol gives higher figures, as arithmetic.

A run under it was trained on some of its test images (`trained_on` in its predictions):
accuracy = share seen x accuracy on seen + share unseen x accuracy on unseen.
"""

from pathlib import Path

import pandas as pd

from stages.core.files import read_csv
from stages.core.run_names import PUBLISHED_SPLIT
from stages.core.sections import TASKS

COLUMNS = (
    *("variant", "task", "images", "seen_share", "seen_accuracy", "unseen_accuracy"),
    *("rerun_accuracy", "honest_accuracy", "expected_accuracy"),
)


def explain_leakage(predictions: Path, comparison: pd.DataFrame) -> pd.DataFrame:
    """Split the accuracy under the published protocol, for each rerun variant and task.

    From the folder of <run>.csv and what `compare` returns. Columns `COLUMNS`: images are those
    tested under the published protocol, unseen_accuracy is empty without such images, and
    expected_accuracy is seen_share x seen_accuracy + the rest x honest_accuracy.
    """
    rows = []
    for _, row in comparison.iterrows():
        tasks = [task for task in TASKS if pd.notna(row[f"rerun_{task}_accuracy"])]
        if not tasks:
            continue
        file = predictions / f"{row['variant']}+{PUBLISHED_SPLIT}.csv"
        texts = [f"{task}_{what}" for task in tasks for what in ("true", "predicted")]
        types = dict.fromkeys(texts, "str")
        frame = read_csv(file, ["trained_on", *texts], "evaluate", dtype=types)
        seen = frame["trained_on"] == 1
        share = float(seen.mean())
        for task in tasks:
            right = frame[f"{task}_true"] == frame[f"{task}_predicted"]
            on_seen, on_unseen = right[seen].mean(), right[~seen].mean()
            honest = row[f"{task}_accuracy"]
            known = share * on_seen if share else 0.0
            values = (row["variant"], task, len(frame), share, on_seen, on_unseen)
            rows.append((*values, right.mean(), honest, known + (1 - share) * honest))
    return pd.DataFrame(rows, columns=list(COLUMNS))
