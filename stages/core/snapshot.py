"""A stage's params and code by dvc.yaml, and which of them were changed while the stage ran.

DVC records a stage's params and code at its end. If somebody edits them meanwhile, or starts an
experiment in the same folder, DVC records the new values for outputs that were made with the old
ones: in dvc.lock and in the run cache, which would restore the wrong outputs from then on. (DVC's
own locks protect the data that a stage reads and writes.)
"""

import hashlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from stages.core.paths import PARAMS_FILE, VARIANTS_FILE, WORKFLOW_FILE

CODE = Path("stages")
STAGE = "DVC_STAGE"  # the variable in which DVC names the stage, as `train@mtl-cnn`

Contents = dict[str, bytes]


def code_of(stage: str) -> dict[str, str]:
    """Hexadecimal SHA-256 of each module that decides a stage's outputs, by path.

    Raises:
        KeyError: dvc.yaml does not name the stage, or any of its modules.
    """
    contents = _contents()
    names = list(_code(_read(contents, WORKFLOW_FILE), stage, contents))
    if not names:
        raise KeyError(f"{WORKFLOW_FILE}: no modules of {stage}")
    return {name: hashlib.sha256(contents[name]).hexdigest() for name in names}


@cache
def snapshot_at_start() -> Contents:
    """What DVC may take down, as it was at the first call; empty where DVC does not run this."""
    return _contents() if STAGE in os.environ else {}


def changes() -> list[str]:
    """The stage's own params and modules that are not as they were, as `params.yaml: seed`."""
    before = snapshot_at_start()
    if not before or (now := _contents()) == before:
        return []
    workflow = _read(before, WORKFLOW_FILE)
    old, new = _own(workflow, before), _own(workflow, now)
    params = [
        f"{PARAMS_FILE}: {changed}"
        for key in old["params"] | new["params"]
        for changed in _differences(key, old["params"].get(key), new["params"].get(key))
    ]
    code = sorted(old["code"] | new["code"])
    return params + [name for name in code if old["code"].get(name) != new["code"].get(name)]


def _contents() -> Contents:
    """Every file that dvc.yaml may name as code or params, by path."""
    code = (file for file in CODE.rglob("*") if "__pycache__" not in file.parts)
    files = [file for file in (WORKFLOW_FILE, PARAMS_FILE, VARIANTS_FILE, *code) if file.is_file()]
    return {file.as_posix(): file.read_bytes() for file in files}


def _read(contents: Contents, file: Path) -> Any:
    """A file's YAML; None for none, as of a file that is being written."""
    from ruamel.yaml import YAML, YAMLError  # which commands that DVC does not run can do without

    try:
        return YAML(typ="safe", pure=True).load(contents.get(file.as_posix(), b"").decode())
    except (YAMLError, UnicodeDecodeError):
        return None


def _own(workflow: Any, contents: Contents) -> dict[str, dict[str, Any]]:
    stage, params = os.environ[STAGE].partition("@")[0], _read(contents, PARAMS_FILE)
    code = _code(workflow, stage, contents)
    return {
        "params": {key: _value(params, key) for key in _of(workflow, stage, "params")},
        "code": {name: hashlib.sha256(contents[name]).hexdigest() for name in code},
    }


def _of(workflow: Any, stage: str, key: str) -> list[str]:
    content = (workflow or {}).get("stages", {}).get(stage, {})
    return [name for name in content.get("do", content).get(key, []) if isinstance(name, str)]


def _code(workflow: Any, stage: str, contents: Contents) -> Iterator[str]:
    """Names of the modules and params files; for a folder, of all files in it."""
    for name in _of(workflow, stage, "deps"):
        yield from (n for n in contents if n == name or n.startswith(f"{name}/"))


def _value(content: Any, key: str) -> Any:
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content


def _differences(key: str, old: Any, new: Any) -> Iterator[str]:
    """The innermost keys under one that have another value."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old | new:
            yield from _differences(f"{key}.{name}", old.get(name), new.get(name))
    elif old != new:
        yield key
