"""Stage audit: no test image, and no copy of one, was trained on or validated with.

Runs under the published protocol are measured but do not fail. `data/audit/` gets runs.csv (the
counts of each run) and leaks.csv (each pair).
"""

from typing import Any

import pandas as pd
from tqdm import tqdm

from stages.auditing.leaks import (
    COLUMNS,
    Pictures,
    compare_pictures,
    count_leaks,
    find_leaks,
    list_differences,
    used_by_lists,
)
from stages.core.errors import UserError
from stages.core.files import write_csv, write_json
from stages.core.params import Params, load_params
from stages.core.paths import AUDIT, AUDIT_METRICS, CROPS, INDEX, PUBLISHED_LISTS, RunPaths
from stages.core.run_names import RunName
from stages.core.stage import run_stage
from stages.dataset.examples import read_used
from stages.dataset.split_files import read_lists
from stages.faces.index import read_cropped, read_crops

SHOWN = 10  # faults of a kind in the error; the files have all
ADVICE = """\
  If they are one picture, split.duplicates must find at least what section audit finds; if not, \
narrow section audit"""


def main() -> None:
    """Compare the test images of every run with its training and validation images."""
    params = load_params()
    names = read_cropped(INDEX)["name"].tolist()
    pictures = compare_pictures(names, read_crops(CROPS), **params.audit.model_dump())
    counts, leaks, faults = {}, [pd.DataFrame(columns=["run", *COLUMNS])], []
    tested: set[str] = set()
    for run in tqdm(params.run_names, "auditing", unit="run", disable=None):
        lists = read_lists(RunPaths(run.text).lists)
        counts[run.text], pairs, faults_of_run = audit_run(run, lists, params, pictures)
        leaks.append(pairs.assign(run=run.text))
        faults += faults_of_run
        tested |= set() if run.is_published_split else set(lists["name"][lists["test"]])
    table = pd.DataFrame.from_dict(counts, orient="index").rename_axis("run").reset_index()
    write_csv(AUDIT / "runs.csv", table)
    write_csv(AUDIT / "leaks.csv", pd.concat(leaks)[["run", *COLUMNS]])
    if faults:
        raise UserError("the test images are not unseen:\n" + "\n".join(faults))
    honest = table[table["exempt"] == 0]
    summary: dict[str, Any] = {
        "runs": len(honest),
        "test_images": len(tested),
        "pairs_checked": int(honest["pairs_checked"].sum()),
        "leaks": int((honest["seen"] + honest["seen_as_copy"]).sum()),
        "published_protocol": audit_published_protocol(pictures),
    }
    write_json(AUDIT_METRICS, summary)
    published = summary["published_protocol"]
    print(
        f"audit: {summary['runs']} run{'s' * (summary['runs'] != 1)}, {len(tested)} test images, "
        f"{summary['pairs_checked']} pairs checked, {summary['leaks']} leaks; under the published "
        f"protocol {published['trained_on']} of {published['test_images']} test images were "
        "trained on"
    )


def audit_run(
    run: RunName, lists: pd.DataFrame, params: Params, pictures: Pictures
) -> tuple[dict[str, int], pd.DataFrame, list[str]]:
    """The counts of a run, its leaks, and its faults in words."""
    paths, exempt = RunPaths(run.text), run.is_published_split
    used = read_used(paths.images)
    test = lists["name"][lists["test"]].tolist()
    leaks = find_leaks(test, used, pictures)
    faults = []
    if other := list_differences(used, lists, whole=params.train.subset.whole):
        faults.append(
            f"{paths.images}: {len(other)} images, as {other[0]!r}, are not used as "
            f"{paths.lists} says: retrain by `dvc repro -f train@{run.text}`"
        )
    if not (exempt or leaks.empty):
        faults.append(_describe(run.text, leaks))
    return {"exempt": int(exempt), **count_leaks(test, used, leaks)}, leaks, faults


def audit_published_protocol(pictures: Pictures) -> dict[str, Any]:
    """How many test images of the published protocol its lists train on."""
    published = read_lists(PUBLISHED_LISTS)
    test = published["name"][published["test"]].tolist()
    used = used_by_lists(published)
    trained = used[used["used_for"] == "train"]
    leaky = count_leaks(test, trained, find_leaks(test, trained, pictures))
    counts: dict[str, Any] = {"test_images": leaky["test_images"]}
    for name, key in (("trained_on", "seen"), ("copies_trained_on", "seen_as_copy")):
        counts |= {name: leaky[key], f"{name}_share": round(leaky[key] / max(len(test), 1), 6)}
    return counts


def _describe(run: str, leaks: pd.DataFrame) -> str:
    lines = [f"{run}: {leaks['test'].nunique()} of its test images were seen in training:"]
    for leak in leaks.head(SHOWN).itertuples():
        lines.append(f"  {leak.test!r}: {leak.kind} of {leak.used!r} in {leak.used_for}")
    if len(leaks) > SHOWN:
        lines.append(f"  and {len(leaks) - SHOWN} more in {AUDIT / 'leaks.csv'}")
    return "\n".join([*lines, ADVICE])


if __name__ == "__main__":
    run_stage(main)
