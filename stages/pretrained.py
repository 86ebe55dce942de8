"""Stage pretrained: the weights that the chosen detector and runs need.

A training depends on its `runs/<run>.json`, the name and SHA-256 of its file (null: it starts from
random weights), so that a file it does not use cannot rerun it.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from stages.core.files import (
    PARTIAL_SUFFIX,
    atomic_write,
    digest,
    remove_others,
    write_checksums,
    write_json,
)
from stages.core.params import load_params
from stages.core.paths import NEEDED_WEIGHTS, PRETRAINED, RunPaths
from stages.core.stage import run_stage
from stages.runs.caches import remove_older, shared_folder
from stages.weights.registry import BACKBONES, DETECTORS, WeightsFile, obtain

PARTIAL_DAYS = 1.0  # after which what a killed process left of a shared copy is removed


def main() -> None:
    """Obtain each file once; then remove those that are not needed any more."""
    params = load_params()
    PRETRAINED.mkdir(parents=True, exist_ok=True)
    wanted = {f"detector {params.detect.detector}": DETECTORS[params.detect.detector]}
    needed = json.loads(NEEDED_WEIGHTS.read_text(encoding="utf-8"))
    for run, (backbone, name) in needed.items():
        if name != "none":
            wanted[f"run {run}"] = BACKBONES[backbone, name]
    files: dict[str, Path] = {}
    for user, weights in wanted.items():
        if weights.key not in files:
            files[weights.key] = _bring(weights, params.pretrained.path(weights.key), user)
    remove_others(PRETRAINED, files.values())
    write_checksums(PRETRAINED)
    for run in needed:
        file = files[wanted[user].key] if (user := f"run {run}") in wanted else None
        content = {"file": file and file.name, "sha256": file and digest(file)}
        write_json(RunPaths(run).weights, content)
    print("pretrained: " + ", ".join(sorted(path.name for path in files.values())))


def _bring(weights: WeightsFile, given: str | None, user: str) -> Path:
    """As `obtain`, but a file that another copy of the workspace has fetched is copied."""
    target = PRETRAINED / weights.file
    if given is not None:
        return obtain(weights, PRETRAINED, given, user)
    shared = shared_folder("pretrained")
    kept, note = shared / weights.file, shared / f"{weights.file}.sha256"
    remove_older(shared, PARTIAL_DAYS, f"*{PARTIAL_SUFFIX}")
    if weights.sha256 is None and note.is_file():  # what was fetched first
        weights = replace(weights, sha256=note.read_text(encoding="utf-8").strip())
    if not target.is_file() and kept.is_file():
        with atomic_write(target) as partial:
            shutil.copyfile(kept, partial)
    obtain(weights, PRETRAINED, None, user)
    if not (kept.is_file() and note.is_file() and digest(kept) == digest(target)):
        with atomic_write(kept, shared=True) as partial:
            shutil.copyfile(target, partial)
        with atomic_write(note, shared=True) as partial:
            partial.write_text(f"{digest(target)}\n", encoding="utf-8")
    return target


if __name__ == "__main__":
    run_stage(main)
