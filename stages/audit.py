"""Stage audit: no test image, and no copy of one, was trained on or validated with.

Runs under the published protocol are measured but do not fail.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from tqdm import tqdm

from stages.auditing import leaks, similar
from stages.core.errors import UserError
from stages.core.files import atomic_write, write_csv, write_json
from stages.core.params import Params, load_params
from stages.core.paths import (
    AUDIT,
    AUDIT_METRICS,
    CROPS,
    EMBEDDINGS,
    INDEX,
    PUBLISHED_LISTS,
    RunPaths,
)
from stages.core.run_names import RunName
from stages.core.stage import run_stage
from stages.dataset.examples import read_used
from stages.dataset.split_files import read_lists
from stages.faces.index import read_cropped, read_crops
from stages.identity.people import similar_pairs

SHOWN = 10  # faults of a kind in the error; the files have all
ADVICE = (
    "  If they are one picture, split.duplicates must find at least what section audit "
    "finds; if not, narrow section audit"
)


def main() -> None:
    """Compare the test images of every run with its training and validation images."""
    params = load_params()
    names, crops = read_cropped(INDEX)["name"].tolist(), read_crops(CROPS)
    rules = params.audit
    pictures = leaks.compare_pictures(names, crops, rules.max_bits, rules.min_correlation)
    columns = ["run", *leaks.COLUMNS]
    counts, pairs, faults = {}, [pd.DataFrame(columns=columns)], []
    tested: set[str] = set()
    for run in tqdm(params.run_names, "auditing", unit="run", disable=None):
        lists = read_lists(RunPaths(run.text).lists)
        counts[run.text], found, faults_of_run = audit_run(run, lists, params, pictures)
        pairs.append(found.assign(run=run.text))
        faults += faults_of_run
        tested |= set() if run.is_published_split else set(lists["name"][lists["test"]])
    table = pd.DataFrame.from_dict(counts, orient="index").rename_axis("run").reset_index()
    write_csv(AUDIT / "runs.csv", table)
    write_csv(AUDIT / "leaks.csv", pd.concat(pairs)[columns])
    if faults:
        raise UserError("the test images are not unseen:\n" + "\n".join(faults))
    honest = table[table["exempt"] == 0]
    runs, checked = len(honest), int(honest["pairs_checked"].sum())
    seen = int((honest["seen"] + honest["seen_as_copy"]).sum())
    summary = {"runs": runs, "test_images": len(tested), "pairs_checked": checked, "leaks": seen}
    published = audit_published_protocol(pictures)
    second: dict[str, Any] = audit_embeddings(params, names, crops) if rules.embeddings else {}
    write_json(AUDIT_METRICS, summary | {"published_protocol": published} | second)
    print(
        f"audit: {runs} run{'s' * (runs != 1)}, {len(tested)} test images, {checked} pairs "
        f"checked, {seen} leaks; under the published protocol {published['trained_on']} of "
        f"{published['test_images']} test images were trained on"
    )


def audit_run(
    run: RunName, lists: pd.DataFrame, params: Params, pictures: leaks.Pictures
) -> tuple[dict[str, int], pd.DataFrame, list[str]]:
    """The counts of a run, its leaks, and its faults in words."""
    paths, exempt = RunPaths(run.text), run.is_published_split
    used = read_used(paths.images)
    test = lists["name"][lists["test"]].tolist()
    found = leaks.find_leaks(test, used, pictures)
    faults = []
    if other := leaks.list_differences(used, lists, whole=params.train.subset.whole):
        text = f"{len(other)} images, as {other[0]!r}, are not used as {paths.lists} says"
        stage = "average" if run.text in params.averages else "train"
        faults.append(f"{paths.images}: {text}: make it anew: `dvc repro -f {stage}@{run.text}`")
    if not (exempt or found.empty):
        images = found["test"].nunique()
        faults.append(f"{run.text}: {images} of its test images were seen in training:")
        for leak in found.head(SHOWN).itertuples():
            faults.append(f"  {leak.test!r}: {leak.kind} of {leak.used!r} in {leak.used_for}")
        if len(found) > SHOWN:
            faults.append(f"  and {len(found) - SHOWN} more in {AUDIT / 'leaks.csv'}")
        faults.append(ADVICE)
    return {"exempt": int(exempt), **leaks.count_leaks(test, used, found)}, found, faults


def audit_embeddings(
    params: Params, names: list[str], crops: npt.NDArray[np.uint8]
) -> dict[str, Any]:
    """Count the test images that resemble a used one by their embeddings; list and show them."""
    rules = params.audit
    pairs = similar_pairs(np.load(EMBEDDINGS, allow_pickle=False), rules.loose_similarity)
    parts, compared = [pd.DataFrame(columns=["run", *similar.COLUMNS])], 0
    for run in (run for run in params.run_names if not run.is_published_split):
        lists, used = read_lists(RunPaths(run.text).lists), read_used(RunPaths(run.text).images)
        test = lists["name"][lists["test"]].tolist()
        parts.append(similar.similar_uses(test, used, names, pairs).assign(run=run.text))
        compared += len(test) * used["name"].nunique()
    table = pd.concat(parts)[["run", *similar.COLUMNS]]
    write_csv(AUDIT / "similar.csv", table)
    shown = table.drop_duplicates(["test", "used"])
    sheet = similar.sheet_of_pairs(crops, names, shown, params.seed)
    with atomic_write(AUDIT / "similar.png") as partial:
        Image.fromarray(sheet).save(partial, "PNG")
    counts = similar.count_similar(table, rules.min_similarity)
    print(
        f"audit: by embeddings {counts['likely_copies']} test images are likely copies of used "
        f"ones (similarity {rules.min_similarity:g}) and {counts['similar']} resemble one "
        f"({rules.loose_similarity:g}), of {compared} pairs; {AUDIT / 'similar.png'} shows them"
    )
    return {"embeddings": {"pairs_checked": compared} | counts}


def audit_published_protocol(pictures: leaks.Pictures) -> dict[str, Any]:
    """How many test images of the published protocol its lists train on."""
    published = read_lists(PUBLISHED_LISTS)
    test = published["name"][published["test"]].tolist()
    used = leaks.used_by_lists(published)
    trained = used[used["used_for"] == "train"]
    leaky = leaks.count_leaks(test, trained, leaks.find_leaks(test, trained, pictures))
    counts: dict[str, Any] = {"test_images": leaky["test_images"]}
    for name, key in (("trained_on", "seen"), ("copies_trained_on", "seen_as_copy")):
        counts |= {name: leaky[key], f"{name}_share": round(leaky[key] / max(len(test), 1), 6)}
    return counts


if __name__ == "__main__":
    run_stage(main)
