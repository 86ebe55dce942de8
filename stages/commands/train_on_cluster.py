"""Train the runs side by side on a cluster: `utkface-mtl train-on-cluster`.

`dvc repro` trains one run after the other. This command gives each run that is not up to date to a
worker of section `cluster` in params.yaml (one GPU or CPU share each), which trains and evaluates
it. Its outputs are committed to DVC, so that `dvc repro` afterwards runs only what follows.

A worker gets the files that the run's stages in dvc.yaml depend on and the weights that they name,
and runs the commands in a folder of its own. Its outputs replace the old ones once all of them are
there. If a run fails, the others go on; a run on a lost machine is done on another.
"""

import argparse
import io
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
from stages.core.files import atomic_write, read_json
from stages.core.params import load_params
from stages.core.paths import PARAMS_FILE, PRETRAINED, WEIGHTS_OF_RUNS
from stages.parallel.cluster import run_tasks
from stages.runs.dvc_repo import Repo

# What every command needs.
CODE = ("stages", "params.yaml", "variants.toml", "dvc.yaml", "forgotten")
SHOWN = 2000  # characters of a failed command's output


def main() -> None:
    """Train and evaluate what is not up to date; put the outputs into place; commit them."""
    form = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=form).parse_args()
    params = load_params()
    if params.cluster.engine != "ray":
        raise UserError("cluster.engine is local; set it to ray: see docs/scale.md")
    with Repo() as repo:
        # The stages of a run have to follow each other; runs are independent.
        chains = [_stale(repo, f"train@{run}", f"evaluate@{run}") for run in params.runs]
        chains = [chain for chain in chains if chain]
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
        for output in map(Path, tasks[number][2]):  # else a folder would keep its old files
            if output.is_dir() and not output.is_symlink():
                shutil.rmtree(output)
            output.unlink(missing_ok=True)
        unpack(found, Path())
        with Repo() as repo:
            for stage in chains[number]:
                repo.commit(stage, force=True)
        print(f"train-on-cluster: {', '.join(chains[number])} done", flush=True)
    print(f"train-on-cluster: {len(chains) - len(failed)} of {len(chains)}; go on by `dvc repro`")
    if failed:
        raise UserError("some runs failed:\n" + "\n".join(failed))


def _stale(repo: Any, *chain: str) -> list[str]:
    """The end of a chain of stages from the first on that is not up to date."""
    stale = repo.status(targets=list(chain))
    first = next((i for i, stage in enumerate(chain) if stage in stale), len(chain))
    return list(chain[first:])


def _refuse_stale(repo: Any, chains: Sequence[Sequence[str]]) -> None:
    within = {stage for chain in chains for stage in chain}
    for chain in chains:
        stale = repo.status(targets=list(chain), with_deps=True)
        if others := ", ".join(sorted(set(stale) - within)):
            raise UserError(f"{others}: not up to date; run `dvc repro lists pretrained`")


def _task(repo: Any, chain: Sequence[str]) -> tuple[bytes, list[list[str]], list[str]]:
    stages = [stage for name in chain for stage in repo.stage.collect(name)]
    outputs = [Path(str(out)).as_posix() for stage in stages for out in stage.outs]
    needed = {str(dep) for stage in stages for dep in stage.deps} - set(outputs) | set(CODE)
    for manifest in [path for path in needed if Path(path).parent == WEIGHTS_OF_RUNS]:
        if file := read_json(Path(manifest), "pretrained")["file"]:
            needed.add((PRETRAINED / file).as_posix())
    paths = [path for path in sorted(needed) if not path.startswith("stages/")]
    return pack(paths, Path()), [stage.cmd.split() for stage in stages], outputs


def _basis(repo: Any, chain: Sequence[str]) -> dict[str, Any]:
    """What DVC records of all that a chain depends on, besides its own outputs."""
    stages = [stage for name in chain for stage in repo.stage.collect(name)]
    outputs = {str(out) for stage in stages for out in stage.outs}
    deps = [dep for stage in stages for dep in stage.deps if str(dep) not in outputs]
    return {f"{dep.stage.addressing}: {dep}": dep.get_hash() for dep in deps}


def run_commands(inputs: bytes, commands: list[list[str]], outputs: list[str]) -> bytes:
    """Run commands in a folder of their own; returns their outputs as `pack` has them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack(inputs, folder)
        _use_local_engine(folder / PARAMS_FILE)
        for command in commands:
            words = [sys.executable if word == "python" else word for word in command]
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                output = (done.stdout + done.stderr)[-SHOWN:]
                raise UserError(f"{' '.join(command)}: exit status {done.returncode}: {output}")
        return pack(outputs, folder)


def _use_local_engine(params: Path) -> None:
    """Keep commands off the cluster: asking it for more than their share would hang."""
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
    """Unpack over existing files; links into DVC's cache are replaced, not followed."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for info in archive:
            target = folder / info.name
            if not info.isdir():
                target.unlink(missing_ok=True)
            archive.extract(info, folder, filter="data")
