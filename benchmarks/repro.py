"""`dvc repro` with nothing to do: crops in one array against one file for each crop.

Two copies of this project's dvc.yaml are made. Their outputs are stand-ins that nothing reads,
of the real sizes: in the one data/faces/crops.npy, in the other a folder of as many JPEG files.
Both are committed to DVC, then `dvc repro` takes turns in both; it starts no stage in either.

    python -m benchmarks.repro
"""

import os
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from dvc.repo import Repo

from benchmarks.side_by_side import (
    add_number,
    compare,
    inverse,
    make_parser,
    print_report,
    prove,
    take_turns,
)
from stages.core.stage import run_stage

ONE_FILE, FOLDER = "data/faces/crops.npy", "data/faces/crops"
JPEG_BYTES = 3500  # of a crop
NOTHING_TO_DO = "Data and pipelines are up to date."
COPIED = ("dvc.yaml", "params.yaml", "variants.toml", "stages", "forgotten", ".dvcignore")
LIMIT = 3.0  # seconds
QUIET = {"DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull}


def main() -> None:
    """Build, prove, time, print."""
    parser = make_parser(__doc__)
    add_number(parser, "--images", 24_000, "crops")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trees = {
            "ours": build_tree(Path(folder) / "ours", arguments.images, one_file=True),
            "rival": build_tree(Path(folder) / "rival", arguments.images, one_file=False),
        }
        told = {side: repro(tree) for side, tree in trees.items()}
        same = all(NOTHING_TO_DO in text and "Running" not in text for text in told.values())
        proven = [prove(same, "neither starts a stage")]
        seconds = take_turns(
            {side: partial(repro, tree) for side, tree in trees.items()}, arguments.rounds
        )
    ours, rival = inverse(seconds["ours"]), inverse(seconds["rival"])
    limit = [LIMIT] * arguments.rounds
    lines = [
        compare("dvc repro: one array / a file each", ours, rival, "runs/s", 2.0),
        compare("dvc repro: one array / 3 s", seconds["ours"], limit, "s", at_most=1.0),
    ]
    print_report(arguments, proven, lines, seconds=seconds)


def build_tree(folder: Path, images: int, one_file: bool) -> Path:
    """A workspace in which everything is up to date.

    Args:
        folder: is made.
        images: crops.
        one_file: whether they stand in one array.
    """
    copy_project(folder)
    if not one_file:
        pipeline = folder / "dvc.yaml"
        text = pipeline.read_text(encoding="utf-8").replace(ONE_FILE, FOLDER)
        pipeline.write_text(text, encoding="utf-8")
    _write_files_of_nodes(folder, images)
    run_quietly(folder, ["dvc", "commit", "--quiet", "--force"])
    return folder


def copy_project(folder: Path) -> None:
    """Make a folder with this project's workflow in a DVC repository of its own."""
    folder.mkdir()
    for name in COPIED:
        source = Path(name)
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, folder / name)
    for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
        run_quietly(folder, command)


def repro(folder: Path) -> str:
    """What `dvc repro` says there."""
    return run_quietly(folder, ["dvc", "repro"])


def _write_files_of_nodes(folder: Path, images: int) -> None:
    """A stand-in for each output and dependency of dvc.yaml that is not there."""
    with Repo(folder) as repo:
        index = repo.index
        paths = {Path(each.fs_path) for each in (*index.outs, *index.deps)}
    for path in sorted(paths, key=lambda path: (not path.suffix, path)):  # folders come last
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            continue
        if path == folder / ONE_FILE:
            np.lib.format.open_memmap(path, "w+", np.uint8, (images, 100, 100, 3)).flush()
        elif path == folder / FOLDER:
            _write_crops(path, images)
        elif path.suffix:
            path.write_text("{}\n" if path.suffix == ".json" else "name\n", encoding="utf-8")
        else:
            path.mkdir()
            (path / "file.txt").write_text("content\n", encoding="utf-8")


def _write_crops(folder: Path, images: int) -> None:
    folder.mkdir()
    random = np.random.default_rng(1)
    for number in range(images):
        (folder / f"{number:06}.jpg").write_bytes(random.bytes(JPEG_BYTES))


def run_quietly(folder: Path, command: list[str]) -> str:
    """What a command prints in a folder, where nothing of the user's own settings counts."""
    done = subprocess.run(
        command, cwd=folder, env=os.environ | QUIET, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    run_stage(main)
