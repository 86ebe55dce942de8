"""Take images and all copies of them out for good: `utkface-mtl forget NAME...`.

A name is that of the image's row in data/faces/index.csv. The image and its copies (its group
in split.csv) are listed in forgotten/images.csv, by which node detect knows and skips them from
now on, and are removed from every table, from the crops and from the caches of the workspace.
Networks that learnt from them are listed in forgotten/models.csv as stale. Commit both files;
`dvc repro` then makes the rest again, and `dvc gc` removes older versions from DVC's cache.
"""

import argparse
import datetime
import difflib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from stages.core.errors import UserError
from stages.core.files import digest
from stages.core.params import load_params
from stages.core.paths import RECORDS
from stages.core.sections import Detect
from stages.core.stage import run_stage
from stages.dataset.examples import read_used
from stages.dataset.split_files import read_split
from stages.detection.forgetting import (
    IMAGES,
    MODELS,
    append_rows,
    fingerprint,
    mentions,
    named,
    remove_crops,
    remove_rows,
    with_copies,
)
from stages.faces.index import read_index
from stages.publishing.records import mentions as record_mentions
from stages.raw.archives import Member, list_archives, read_members
from stages.runs.caches import shared_folder

RAW = Path("data/raw")
FACES = Path("data/faces")
SPLIT = Path("data/split/split.csv")
OUTPUTS = (Path("data"), Path("models"), Path("exports"))
EXPORTS = Path("exports")
SPLITS = Path("docs/splits")
REPORT = Path("report")  # shows pictures, without their names
DERIVED = ("features", "checkpoints")  # caches that hold something of every image
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
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    prints = fingerprints(names, load_params().detect)
    append_rows(IMAGES, [{"sha256": p, "forgotten_on": today} for p in prints])
    mark_stale(names)
    remove(names)
    for path in published(names):
        _tell(f"stale: {path}, in git, names them; `make publish` writes it anew")
    _tell(NEXT)
    listed = ", ".join(map(repr, names))
    print(f"forget: {len(names)} images: {listed}; next: commit {IMAGES.parent}/, then `dvc repro`")


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def find(wanted: list[str]) -> list[str]:
    """The names wanted and those of their copies.

    Raises:
        UserError: a name is not in index.csv.
    """
    known = set(read_index(FACES / "index.csv")["name"])
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"{FACES / 'index.csv'}: has no {name!r}{hint}")
    return with_copies(dict.fromkeys(wanted), read_split(SPLIT))


def fingerprints(names: list[str], detect: Detect) -> list[str]:
    """Of the images' bytes, from the raw archives.

    Raises:
        UserError: an image is not in them, or has no bytes (a link, a member that is too large).
    """
    found = {}
    for name, member in tqdm(named(_members(detect), lambda m: m), "searching", disable=None):
        if name in names:
            found[name] = fingerprint(member)
    if without := [name for name in names if found.get(name) is None]:
        raise UserError(
            f"{RAW}: has no bytes of {without[0]!r} by which it could be known again; take it out "
            "of the archive itself"
        )
    return [value for value in found.values() if value is not None]


def _members(detect: Detect) -> Iterator[Member]:
    for archive in list_archives(RAW):
        yield from read_members(archive, detect, detect.damaged == "keep")


def mark_stale(names: list[str]) -> None:
    """List the networks of the workspace that learnt from any of the images."""
    for used in sorted(Path("models").glob("*/images.csv")):
        table = read_used(used)
        images = int(table["name"].isin(names).sum())
        network = used.with_name("model.keras")
        if images and network.is_file():
            row = {"sha256": digest(network), "run": used.parent.name, "images": images}
            append_rows(MODELS, [row])
            _tell(f"stale: {used.parent.name} learnt from {images} of them")
            if (EXPORTS / used.parent.name).is_dir():
                _tell(f"stale: {EXPORTS / used.parent.name}, which was made of it; delete it")


def published(names: list[str]) -> list[Path]:
    """The published splits and records that name any of the images."""
    splits = [path for path in sorted(SPLITS.glob("*.csv")) if mentions(names, path)]
    return splits + [p for p in sorted(RECORDS.glob("*.tar.xz")) if record_mentions(p, names)]


def remove(names: list[str]) -> None:
    """Remove the images from the workspace: rows, crops, and whatever else mentions them.

    What the names and their copies are found by goes last: interrupted before, it can be done
    again; afterwards `dvc repro` makes the rest anew.
    """
    for name in DERIVED:
        shutil.rmtree(shared_folder(name), ignore_errors=True)
    shutil.rmtree(REPORT, ignore_errors=True)
    last = (FACES / "index.csv", SPLIT)
    files = [path for top in OUTPUTS for path in sorted(top.rglob("*")) if path.is_file()]
    for path in files:
        if RAW in path.parents or path in last:
            continue
        if path.suffix == ".csv":
            if rows := remove_rows(names, path):
                _tell(f"removed: {rows} rows of {path}")
        elif mentions(names, path):
            path.unlink()
            _tell(f"removed: {path}, which mentions them; `dvc repro` makes it again")
    crops = remove_crops(names, FACES / "index.csv", FACES / "crops.npy")
    _tell(f"removed: {crops} crops of {FACES / 'crops.npy'}")
    for path in last:
        _tell(f"removed: {remove_rows(names, path)} rows of {path}")


if __name__ == "__main__":
    run_stage(main)
