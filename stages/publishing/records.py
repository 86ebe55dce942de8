"""The record of a comparison: all results of its runs except networks and images, in one file.

`docs/results/<name>.tar.xz` holds params.yaml (with only the last part of each path), the split
with its conflicting labels, the audit's counts, the tables of searches, and the metrics, curves,
predictions, evaluation and the CSV and JSON files beside the network of each run, under their paths
in a workspace. In the unpacked folder, `python -m stages.compare` computes every table and chart
again, and `utkface-mtl score` every figure of a run.
"""

import io
import lzma
import shutil
import tarfile
from collections.abc import Collection, Iterable
from pathlib import Path

from stages.core import paths
from stages.core.errors import UserError
from stages.core.files import atomic_write, partial_path
from stages.core.params import Params
from stages.core.paths import RunPaths
from stages.core.sections import AUTO

TOP = (
    *(paths.DETECT_METRICS, paths.SPLIT_METRICS, paths.AUDIT_METRICS),
    *(paths.SPLIT, paths.CONFLICTING),
)
MAX_BYTES = 2**30  # that a record unpacks to
_DAMAGE = (tarfile.TarError, lzma.LZMAError, EOFError)


def record_file(name: str) -> Path:
    """The path of the record of that name."""
    return paths.RECORDS / f"{name}.tar.xz"


def files_of(run: str) -> list[Path]:
    """The files of a run that its record keeps; those that are there."""
    of = RunPaths(run)
    single = [of.metrics, of.training, *map(of.predictions, ("test", "val"))]
    inside = [path for folder in (of.curves, of.evaluation) for path in folder.rglob("*")]
    beside = [path for path in of.model.glob("*") if path.suffix in (".csv", ".json")]
    return sorted(path for path in (*single, *inside, *beside) if path.is_file())


def write_record(path: Path, params: Params, runs: Iterable[str]) -> None:
    """Write the record of the workspace's runs, whole or not at all; equal files, equal bytes."""
    if missing := [file for file in TOP if not file.is_file()]:
        raise UserError(f"{missing[0]}: missing; run `dvc repro`")
    # Similar files side by side compress better.
    tables = [paths.TUNING / f"{search}.csv" for search in params.searches]
    found = [path for path in tables if path.is_file()]
    files = sorted([*TOP, *found, *(file for run in runs for file in files_of(run))])
    with atomic_write(path) as partial, tarfile.open(partial, "w:xz", preset=9) as archive:
        for file in (paths.PARAMS_FILE, paths.VARIANTS_FILE, *files):
            content = _without_folders(params) if file == paths.PARAMS_FILE else file.read_bytes()
            entry = tarfile.TarInfo(file.as_posix())
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def restore(path: Path, folder: Path) -> int:
    """Unpack a record into a new folder, or an empty one; returns the number of files."""
    if not path.is_file():
        known = ", ".join(sorted(p.name for p in paths.RECORDS.glob("*.tar.xz"))) or "none"
        raise UserError(f"{path}: missing; there are: {known}")
    folder = folder.absolute()
    if folder == Path.cwd():
        raise UserError(f"{folder}: is the current folder; name a new one")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is not empty; name a new folder")
    unpacked = partial_path(folder)  # an incomplete folder must not look like a workspace
    try:
        with tarfile.open(path, "r:xz") as archive:
            members = archive.getmembers()
            if odd := [entry.name for entry in members if not entry.isfile()]:
                reason = f"{odd[0]!r} is no file; take the record from its source again"
                raise UserError(f"{path}: {reason}")
            if sum(entry.size for entry in members) > MAX_BYTES:
                raise UserError(f"{path}: unpacks to more than {MAX_BYTES} bytes; it is no record")
            archive.extractall(unpacked, members, filter="data")
        unpacked.replace(folder)
    except (*_DAMAGE, OSError) as error:
        raise UserError(f"{path}: cannot be unpacked into {folder} ({error})") from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return len(members)


def mentions(path: Path, names: Collection[str]) -> bool:
    """Whether any file in a record names one of the images; a `UserError` if it is damaged."""
    wanted = [name.encode() for name in names]
    try:
        with tarfile.open(path, "r:xz") as archive:
            files = filter(None, map(archive.extractfile, archive))
            return any(name in content for content in (f.read() for f in files) for name in wanted)
    except _DAMAGE as error:
        raise UserError(f"{path}: damaged ({error}); take it from its source again") from error


def _without_folders(params: Params) -> bytes:
    """params.yaml with only the last part of each path, which would describe the machine."""
    text = paths.PARAMS_FILE.read_text(encoding="utf-8")
    by_hand = [path for path in params.pretrained.model_dump().values() if path != AUTO]
    for path in sorted([*params.data.local, *by_hand], key=len, reverse=True):
        text = text.replace(path, Path(path).name)
    return text.encode()
