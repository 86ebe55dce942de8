"""Node audit: no test image, and no copy of one, was trained on or validated with.

The lists are those that each model left, the pixels are compared anew. Runs under the published
protocol are measured but do not fail. `data/audit/` gets runs.csv (the counts of each run) and
leaks.csv (each pair).
"""

from pathlib import Path

import pandas as pd
from tqdm import tqdm

from stages.core.errors import UserError, run_stage
from stages.core.files import write_csv, write_json
from stages.core.params import load_params
from stages.dataset.examples import read_used
from stages.dataset.image_lists import read_lists
from stages.dataset.index import read_cropped, read_crops
from stages.runs.resolve import PUBLISHED_SPLIT, lists_file, run_name, stage_name
from stages.splitting.leaks import (
    COLUMNS,
    compare_pictures,
    count_leaks,
    find_leaks,
    list_differences,
    used_by_lists,
)

FACES = Path("data/faces")
PUBLISHED = Path("data/split/published.csv")
AUDIT = Path("data/audit")
METRICS = Path("metrics/audit.json")
SHOWN = 10  # faults of a kind in the error; the files have all


def main() -> None:
    """Compare the test images of every run with what its model was made with."""
    params = load_params()
    names = read_cropped(FACES / "index.csv")["name"].tolist()
    crops = read_crops(FACES / "crops.npy")
    pictures = compare_pictures(names, crops, **params.audit.model_dump())
    counts, leaks, faults = {}, [pd.DataFrame(columns=["run", *COLUMNS])], []
    tested: set[str] = set()
    for condition in (None, *params.repeats.conditions):
        lists = read_lists(lists_file(condition))
        test = lists["name"][lists["test"]].tolist()
        variants = params.suite if condition is None else params.repeats.variants
        for variant in tqdm(variants, f"auditing {lists_file(condition).stem}", disable=None):
            run = run_name(variant, condition)
            file = Path("models") / run / "images.csv"
            used = read_used(file)
            found = find_leaks(test, used, pictures)
            exempt = condition == PUBLISHED_SPLIT
            counts[run] = {"exempt": int(exempt), **count_leaks(test, used, found)}
            leaks.append(found.assign(run=run))
            tested.update([] if exempt else test)
            if other := list_differences(used, lists, whole=params.train.subset.whole):
                faults.append(
                    f"{file}: {len(other)} images, as {other[0]!r}, are used in another way than "
                    f"{lists_file(condition)} says: retrain by "
                    f"`dvc repro -f {stage_name(run, 'train')}`"
                )
            if not (exempt or found.empty):
                faults.append(_describe(run, found))
    table = pd.DataFrame.from_dict(counts, orient="index").rename_axis("run").reset_index()
    write_csv(AUDIT / "runs.csv", table)
    write_csv(AUDIT / "leaks.csv", pd.concat(leaks)[["run", *COLUMNS]])
    if faults:
        raise UserError("the test images are not unseen:\n" + "\n".join(faults))

    published = read_lists(PUBLISHED)
    test = published["name"][published["test"]].tolist()
    used = used_by_lists(published)
    trained = used[used["used_for"] == "train"]
    leaky = count_leaks(test, trained, find_leaks(test, trained, pictures))
    honest = table[table["exempt"] == 0]
    summary = {
        "runs": len(honest),
        "test_images": len(tested),
        "pairs_checked": int(honest["pairs_checked"].sum()),
        "leaks": int((honest["seen"] + honest["seen_as_copy"]).sum()),
        "published_protocol": {
            "test_images": leaky["test_images"],
            "trained_on": leaky["seen"],
            "trained_on_share": round(leaky["seen"] / max(len(test), 1), 6),
            "copies_trained_on": leaky["seen_as_copy"],
            "copies_trained_on_share": round(leaky["seen_as_copy"] / max(len(test), 1), 6),
        },
    }
    write_json(METRICS, summary)
    number = f"{summary['runs']} run{'s' * (summary['runs'] != 1)}"
    print(
        f"audit: {number}, {summary['test_images']} test images, "
        f"{summary['pairs_checked']} pairs checked, {summary['leaks']} leaks; under the published "
        f"protocol {leaky['seen']} of {leaky['test_images']} test images were trained on"
    )


def _describe(run: str, leaks: pd.DataFrame) -> str:
    lines = [
        f"  {leak.test!r}: {leak.kind} of {leak.used!r} in {leak.used_for}"
        for leak in leaks.head(SHOWN).itertuples()
    ]
    if len(leaks) > SHOWN:
        lines.append(f"  and {len(leaks) - SHOWN} more in {AUDIT / 'leaks.csv'}")
    return "\n".join(
        [
            f"{run}: {leaks['test'].nunique()} of its test images were seen in training:",
            *lines,
            "  If they are one picture, split.duplicates must find at least what section audit "
            "finds; if not, narrow section audit",
        ]
    )


if __name__ == "__main__":
    run_stage(main)
