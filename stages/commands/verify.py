"""Find what is damaged in DVC's cache and in the workspace: `utkface-mtl verify`.

DVC trusts a file by its time and mode. A byte that flips on the disk stays unseen: in the cache,
and through hard links in the outputs too. This reads every file, compares it with the digest that
the cache and dvc.lock name, and removes what differs, so that `dvc repro` makes it again. The
entries of the run cache, which say what earlier runs made of the same inputs, are read too.
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

from ruamel.yaml import YAML, YAMLError
from tqdm import tqdm

from stages.core.errors import UserError
from stages.core.files import digest
from stages.core.paths import LOCK_FILE
from stages.runs.caches import shared_folder
from stages.runs.dvc_repo import dict_sha256

_OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")  # the name of a file in the cache: its MD5
FOLDER = ".dir"  # ends the digest of a folder, whose object lists its files


def main() -> None:
    """Verify cache and workspace, remove what is damaged, say what to run."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    if not LOCK_FILE.is_file():
        raise UserError(f"{LOCK_FILE}: missing; run `dvc repro`")
    outputs, cache = outs(), shared_folder("files") / "md5"
    objects = sorted(path for path in cache.glob("??/*") if _OBJECT.fullmatch(name_of(path)))
    damaged = [
        path
        for path in tqdm(objects, "cache", unit="file", disable=None)
        if not path.is_file() or digest(path, "md5") != name_of(path).removesuffix(FOLDER)
    ]
    runs = sorted(path for path in shared_folder("runs").glob("??/*/*") if not path.is_dir())
    damaged += [path for path in runs if run_digest(path) != path.name]
    # Outputs first: the listing of a folder may be damaged too, and then says nothing.
    lists = {name_of(path): path for path in objects if path not in damaged}
    wrong = [
        path
        for path, md5 in tqdm(outputs, "workspace", unit="output", disable=None)
        if path.exists() and differs(path, md5, lists)
    ]
    for path in [*damaged, *wrong]:
        print(f"damaged, removed: {path}", file=sys.stderr)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    number = len(damaged) + len(wrong)
    files = len(objects) + len(runs)
    print(f"verify: {files} files of the cache, {len(outputs)} outputs, {number} damaged")
    if number:
        raise UserError("damaged files were removed; run `dvc repro`, which makes them again")


def name_of(path: Path) -> str:
    """The MD5 that an object of the cache is named by."""
    return path.parent.name + path.name


def run_digest(path: Path) -> str | None:
    """What DVC names an entry of its run cache by: SHA-256 of the content; None if it has none."""
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        return str(dict_sha256(content, exclude=["size", "nfiles"]))  # as in dvc.stage.cache
    except (YAMLError, OSError, ValueError, AttributeError, TypeError):
        return None


def outs() -> list[tuple[Path, str]]:
    """The outputs that dvc.lock names, each with its MD5; a `UserError` if it is damaged."""
    try:
        stages = YAML(typ="safe", pure=True).load(LOCK_FILE.read_text(encoding="utf-8"))["stages"]
        found = [out for stage in stages.values() for out in stage.get("outs", [])]
        return [(Path(out["path"]), str(out["md5"])) for out in found]
    except (YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        text = f"damaged ({reason}); run `git checkout {LOCK_FILE}`"
        raise UserError(f"{LOCK_FILE}: {text}") from None


def differs(path: Path, md5: str, lists: dict[str, Path]) -> bool:
    """Whether an output has other bytes than dvc.lock says.

    Of a folder each file is compared with its entry in the folder's list, where the cache has it;
    what was added since is no damage.
    """
    if not md5.endswith(FOLDER):
        return path.is_file() and digest(path, "md5") != md5
    if md5 not in lists or not path.is_dir():
        return False
    entries = json.loads(lists[md5].read_text(encoding="utf-8"))
    files = [(path / entry["relpath"], entry["md5"]) for entry in entries]
    return any(file.is_file() and digest(file, "md5") != known for file, known in files)
