"""Node pretrained: the weights that the chosen detector and variants need.

`data/pretrained/` holds the files, and for each variant of the suite a small
`variants/<variant>.json` with the name and SHA-256 of its file (null: it starts from random
weights). A training depends on the latter, so that a file it does not use cannot rerun it.
"""

import shutil
from pathlib import Path

from stages.workspace.caches import shared_folder
from stages.workspace.catalogue import BACKBONES, DETECTORS, WeightsFile, obtain
from stages.workspace.errors import run_node
from stages.workspace.files import digest, remove_others, whole_file, write_json
from stages.workspace.params import load_params
from stages.workspace.plans import read_plan

PRETRAINED = Path("data/pretrained")


def main() -> None:
    """Obtain each file once; then remove those that nothing wants any more."""
    params = load_params()
    PRETRAINED.mkdir(parents=True, exist_ok=True)
    wanted = {f"detector {params.detect.detector}": DETECTORS[params.detect.detector]}
    for variant in params.suite:
        structure = read_plan(variant)["structure"]
        if structure["weights"] != "none":
            wanted[f"variant {variant}"] = BACKBONES[structure["backbone"], structure["weights"]]
    files: dict[str, Path] = {}
    for user, weights in wanted.items():
        if weights.key not in files:
            files[weights.key] = _bring(weights, params.pretrained.path(weights.key), user)
    remove_others(PRETRAINED, [*files.values(), PRETRAINED / "variants"])
    manifests = PRETRAINED / "variants"
    for variant in params.suite:
        file = files[wanted[user].key] if (user := f"variant {variant}") in wanted else None
        content = {"file": file and file.name, "sha256": file and digest(file)}
        write_json(manifests / f"{variant}.json", content)
    remove_others(manifests, [manifests / f"{variant}.json" for variant in params.suite])
    print("pretrained: " + ", ".join(sorted(path.name for path in files.values())))


def _bring(weights: WeightsFile, given: str | None, user: str) -> Path:
    """As `obtain`, but what another copy of the workspace has fetched is not fetched again."""
    target, kept = PRETRAINED / weights.file, shared_folder("pretrained") / weights.file
    if given is None and not target.is_file() and kept.is_file():
        _copy(kept, target)
    obtain(weights, PRETRAINED, given, user)
    if given is None and not (kept.is_file() and digest(kept) == weights.sha256):
        _copy(target, kept)
    return target


def _copy(source: Path, target: Path) -> None:
    with whole_file(target) as partial:
        shutil.copyfile(source, partial)


if __name__ == "__main__":
    run_node(main)
