"""Detect, split and a training on real images give the same bytes with any number of workers.

Skipped, and said so, where the environment names no archive.
"""

import itertools
import sys
import tarfile
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "workflow"))
from stage_processes import VARIANT, Workspace, make_workspace

IMAGES = 300


@pytest.fixture(scope="module")
def workspace(
    tmp_path_factory: pytest.TempPathFactory, utkface_archive: Path, mobilenet_weights: Path
) -> Workspace:
    folder = tmp_path_factory.mktemp("real")
    with (
        tarfile.open(utkface_archive) as source,
        tarfile.open(folder / "some.tar", "w") as target,
    ):
        for member in itertools.islice(filter(tarfile.TarInfo.isfile, source), IMAGES):
            target.addfile(member, source.extractfile(member))
    return make_workspace(folder / "workspace", mobilenet_weights, folder / "some.tar")


@pytest.mark.long
def test_real_images_give_the_same_bytes_with_any_number_of_workers(workspace: Workspace):
    made = []
    for workers in (1, 4):
        params = workspace.folder / "params.yaml"
        params.write_text(params.read_text().replace("  threads: 0 ", f"  threads: {workers} "))
        for stage in ("download", "plan", "pretrained", "detect", "split", "lists"):
            workspace.run(stage)
        workspace.run(f"train {VARIANT}")
        made.append(workspace.digests())
        params.write_text(params.read_text().replace(f"  threads: {workers} ", "  threads: 0 "))
    assert made[0] == made[1]
    kinds = {name.split("/")[-1] for name in made[0]}
    assert {"crops.npy", "index.csv", "split.csv", "model.keras", "provenance.json"} <= kinds
