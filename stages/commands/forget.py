"""Take images and all copies of them out for good: `utkface-mtl forget NAME...`.

A name is that of the image's row in data/faces/index.csv. The image and its copies (its group
in split.csv) are listed in forgotten/images.csv, so that stage detect skips them from now on, and
are removed from every table, from the crops and from the caches of the workspace. Networks that
were trained on them are listed in forgotten/models.csv as stale. Commit both files; `dvc repro`
then makes the rest again, and `dvc gc` removes older versions from DVC's cache.
"""

import argparse
import difflib
import shutil
import sys
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stages.core import paths
from stages.core.errors import UserError
from stages.core.files import CHECKSUMS, digest, write_checksums
from stages.core.params import load_params
from stages.core.sections import Detect
from stages.dataset.examples import read_used
from stages.dataset.split_files import read_split
from stages.detection import forgetting
from stages.faces.index import read_index
from stages.inference.models import RELEASED, released_network
from stages.publishing.records import mentions as record_mentions
from stages.raw.archives import list_archives, read_members
from stages.runs.caches import shared_folder

# Numbers, in which a short name would be found by chance.
NAMELESS = (".npy", ".keras", ".h5", ".onnx", ".tflite")
NEXT = """\
The raw archives still hold the images; so do older versions in DVC's cache and remotes until
`dvc gc --workspace` (and `--cloud`) removes them."""


def main() -> None:
    """Record first, so that whatever is interrupted later, the images cannot come back."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="as in data/faces/index.csv")
    names = find(parser.parse_args().names)
    today = datetime.now(timezone.utc).date().isoformat()
    prints = fingerprints(names, load_params().detect)
    rows = [{"sha256": each, "forgotten_on": today} for each in prints]
    forgetting.append_rows(paths.FORGOTTEN_IMAGES, rows)
    mark_stale(names)
    remove(names)
    for path in published(names):
        _tell(f"stale: {path}, in git, names them; `make publish` writes it anew")
    _tell(NEXT)
    listed, folder = ", ".join(map(repr, names)), paths.FORGOTTEN_IMAGES.parent
    print(f"forget: {len(names)} images: {listed}; next: commit {folder}/, then `dvc repro`")


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def find(wanted: list[str]) -> list[str]:
    """The names wanted and those of their copies; an error for a name that is not in index.csv."""
    known = set(read_index(paths.INDEX)["name"])
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"{paths.INDEX}: has no {name!r}{hint}")
    return forgetting.with_copies(dict.fromkeys(wanted), read_split(paths.SPLIT))


def fingerprints(names: list[str], detect: Detect) -> list[str]:
    """Of the images' bytes, from the raw archives.

    A `UserError` if an image is not in them, or has no bytes (a link, a member that is too large).
    """
    members = (
        member
        for archive in list_archives(paths.RAW)
        for member in read_members(archive, detect, detect.damaged == "keep")
    )
    found = {}
    for name, member in tqdm(forgetting.named((m, m) for m in members), "searching", disable=None):
        if name in names and (value := forgetting.fingerprint(member)) is not None:
            found[name] = value
    if without := [name for name in names if name not in found]:
        text = f"has no bytes of {without[0]!r} by which it could be recognized"
        raise UserError(f"{paths.RAW}: {text}; take it out of the archive itself")
    return list(found.values())


def mark_stale(names: list[str]) -> None:
    """List the networks of the workspace that were trained on any of the images."""
    for used in sorted(paths.MODELS.glob("*/images.csv")):
        images = int(read_used(used)["name"].isin(names).sum())
        network, run = used.with_name(paths.NETWORK_FILE), used.parent.name
        if images and network.is_file():
            row = {"sha256": digest(network), "run": run, "images": images}
            forgetting.append_rows(paths.FORGOTTEN_MODELS, [row])
            _tell(f"stale: {run} was trained on {images} of them")
            if (paths.EXPORTS / run).is_dir():
                _tell(f"stale: {paths.EXPORTS / run}, which was exported from it; delete it")
            if row["sha256"] == released_network():
                _tell(f"stale: {RELEASED}, which was made from it; make release NAME={run}")


def published(names: list[str]) -> list[Path]:
    """The published splits and records that name any of the images."""
    splits, records = paths.PUBLISHED_SPLITS.glob("*.csv"), paths.RECORDS.glob("*.tar.xz")
    naming = [path for path in sorted(splits) if forgetting.mentions(names, path)]
    return naming + [path for path in sorted(records) if record_mentions(path, names)]


def remove(names: list[str]) -> None:
    """Remove the images from the workspace: rows, crops, and whatever else mentions them.

    The two tables that find the names and their copies go last, so that an interrupted removal can
    be repeated.
    """
    sums = paths.FACES / CHECKSUMS
    sums.unlink(missing_ok=True)  # of files that now change
    for cache in (shared_folder("features"), shared_folder("checkpoints"), paths.REPORT.parent):
        shutil.rmtree(cache, ignore_errors=True)  # these hold something of every image
    for file in list(paths.TEMPORARY_WORKSPACES.rglob(paths.WORKFLOW_FILE.name)):
        shutil.rmtree(file.parent)  # of a `dvc exp run --temp` that was killed
        _tell(f"removed: {file.parent}, a workspace of an experiment")
    outputs = (Path("data"), paths.MODELS, paths.EXPORTS)
    for path in [path for top in outputs for path in sorted(top.rglob("*")) if path.is_file()]:
        if paths.RAW in path.parents or path in (paths.INDEX, paths.SPLIT):
            continue
        if path.suffix == ".csv":
            if rows := forgetting.remove_rows(names, path):
                _tell(f"removed: {rows} rows of {path}")
        elif path.suffix not in NAMELESS and forgetting.mentions(names, path):
            path.unlink()
            _tell(f"removed: {path}, which mentions them; `dvc repro` makes it again")
    for path in (paths.EMBEDDINGS, paths.AUDIT / "similar.png"):
        if path.is_file() and (
            path != paths.EMBEDDINGS or len(np.load(path, mmap_mode="r", allow_pickle=False))
        ):
            path.unlink()
            _tell(f"removed: {path}, made of all faces; `dvc repro` makes it again")
    crops = forgetting.remove_crops(names, paths.INDEX, paths.CROPS)
    _tell(f"removed: {crops} crops of {paths.CROPS}")
    for path in (paths.INDEX, paths.SPLIT):
        _tell(f"removed: {forgetting.remove_rows(names, path)} rows of {path}")
    write_checksums(paths.FACES)
