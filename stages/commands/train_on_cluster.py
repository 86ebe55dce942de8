"""The runs side by side on a cluster: `utkface-mtl train-on-cluster`.

`dvc repro` trains one variant after the other. This command gives each one that is not up to date,
with its evaluation and its repeats, to a worker of section `cluster` (one GPU or CPU share each),
and tells DVC of the outputs: `dvc repro` finds them and has only what follows left to do.

A worker gets the files that the stages of dvc.yaml depend on and the weights that they name, runs
their commands in a folder of its own and by itself, and sends back their outputs, which take the
place of the old ones when all of a variant's are there. A failed variant ends no other; a lost
machine's is done on another.
"""

import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.core.errors import UserError
from stages.core.files import atomic_write
from stages.core.params import Params, load_params
from stages.core.paths import PARAMS_FILE, PRETRAINED, WEIGHTS_OF_RUNS
from stages.core.stage import run_stage
from stages.parallel.cluster import run_tasks
from stages.runs.dvc_repo import Repo

CODE = (
    "stages",
    "params.yaml",
    "variants.toml",
    "dvc.yaml",
    "forgotten",
)  # that every command needs
SAID = 2000  # characters of a failed command's output that are shown


def main() -> None:
    """Train and evaluate what is not up to date; put the outputs into place; tell DVC."""
    params = load_params()
    if params.cluster.engine != "ray":
        raise UserError("cluster.engine is local; set it to ray: see docs/scale.md")
    with Repo() as repo:
        chains = [chain for chain in _chains(params) if repo.status(targets=chain)]
        _refuse_stale(repo, chains)
        bases = [_basis(repo, chain) for chain in chains]  # first: later edits are then seen
        tasks = [_task(repo, chain) for chain in chains]
    failed = []
    for number, found in run_tasks(params.cluster, run_commands, tasks):
        if isinstance(found, Exception):
            failed.append(f"{', '.join(chains[number])}: {found}")
            continue
        with Repo() as repo:
            now = _basis(repo, chains[number])
        if changed := sorted(n for n, basis in bases[number].items() if basis != now.get(n)):
            # DVC would record the outputs as made with what is there now.
            message = f"changed meanwhile: {', '.join(changed)}; its outputs are not taken"
            failed.append(f"{', '.join(chains[number])}: {message}")
            continue
        for output in tasks[number][2]:
            _remove(Path(output))  # else what is not made any more would stay in its folder
        unpack(found, Path())
        with Repo() as repo:
            for stage in chains[number]:
                repo.commit(stage, force=True)
        print(f"train-on-cluster: {', '.join(chains[number])} done", flush=True)
    print(f"train-on-cluster: {len(chains) - len(failed)} of {len(chains)}; go on by `dvc repro`")
    if failed:
        raise UserError("some runs failed:\n" + "\n".join(failed))


def _chains(params: Params) -> list[list[str]]:
    """The stages of each run, which have to follow each other; runs are independent."""
    return [[f"train@{run}", f"evaluate@{run}"] for run in params.runs]


def _refuse_stale(repo: Any, chains: Sequence[Sequence[str]]) -> None:
    """All that the chains need, besides themselves, must be up to date."""
    within = {stage for chain in chains for stage in chain}
    for chain in chains:
        stale = repo.status(targets=list(chain), with_deps=True)
        others = sorted(name for name in stale if name not in within)
        if others:
            raise UserError(
                f"{', '.join(others)}: not up to date; run `dvc repro lists pretrained`"
            )


def _task(repo: Any, chain: Sequence[str]) -> tuple[bytes, list[list[str]], list[str]]:
    stages = [stage for name in chain for stage in repo.stage.collect(name)]
    outputs = [Path(str(out)).as_posix() for stage in stages for out in stage.outs]
    needed = {str(dep) for stage in stages for dep in stage.deps} - set(outputs) | set(CODE)
    needed |= {weights for path in needed if (weights := _weights(Path(path)))}
    commands = [
        command.split()
        for stage in stages
        for command in ([stage.cmd] if isinstance(stage.cmd, str) else stage.cmd)
    ]
    paths = [path for path in sorted(needed) if not path.startswith("stages/")]
    return pack(paths, Path()), commands, outputs


def _basis(repo: Any, chain: Sequence[str]) -> dict[str, Any]:
    """What DVC records of all that a chain depends on, besides its own outputs."""
    stages = [stage for name in chain for stage in repo.stage.collect(name)]
    outputs = {str(out) for stage in stages for out in stage.outs}
    deps = [dep for stage in stages for dep in stage.deps if str(dep) not in outputs]
    return {f"{dep.stage.addressing}: {dep}": dep.get_hash() for dep in deps}


def _weights(manifest: Path) -> str | None:
    """The weights file that data/pretrained/runs/<run>.json names, if it is such a file."""
    if manifest.parent != WEIGHTS_OF_RUNS:
        return None
    file = json.loads(manifest.read_text(encoding="utf-8"))["file"]
    return file and (PRETRAINED / file).as_posix()


def _remove(path: Path) -> None:
    """A file, a link or a folder, where it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run_commands(inputs: bytes, commands: list[list[str]], outputs: list[str]) -> bytes:
    """Run commands in a folder of their own; returns their outputs as `pack` has them.

    Raises:
        UserError: a command failed; the text has the end of what it said.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack(inputs, folder)
        _alone(folder / PARAMS_FILE)
        for command in commands:
            words = [sys.executable if word == "python" else word for word in command]
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                said = (done.stdout + done.stderr)[-SAID:]
                raise UserError(f"{' '.join(command)}: exit status {done.returncode}: {said}")
        return pack(outputs, folder)


def _alone(params: Path) -> None:
    """Let commands work by themselves: to ask the cluster for more than their share would hang."""
    yaml = YAML()
    content = yaml.load(params)
    content["cluster"]["engine"] = "local"
    with atomic_write(params) as partial:
        yaml.dump(content, partial)


def pack(paths: Iterable[str], folder: Path) -> bytes:
    """Files and folders below a folder as an uncompressed tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in paths:
            archive.add(folder / path, path, filter=_no_cache)
    return buffer.getvalue()


def _no_cache(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if Path(info.name).name == "__pycache__" else info


def unpack(content: bytes, folder: Path) -> None:
    """What `pack` packed, over what is there; links into DVC's cache are replaced, not followed."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for info in archive:
            target = folder / info.name
            if not info.isdir():
                target.unlink(missing_ok=True)
            archive.extract(info, folder, filter="data")


if __name__ == "__main__":
    run_stage(main)
