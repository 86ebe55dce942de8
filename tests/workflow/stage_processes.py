"""Stages as they run in the workflow, each a process of its own, in a small workspace."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML

from stages.core.files import digest

TOP = Path(__file__).parents[2]
VARIANT = "mtl-cnn"
STAGES = (
    *("validate", "download", "plan", "pretrained", "detect", "split", "lists"),
    *(f"train {VARIANT}", f"evaluate {VARIANT}"),
    *(f"train {VARIANT}+seed-2", f"evaluate {VARIANT}+seed-2"),
    *("audit", "compare", "report"),
)
TOPS = ("data", "models", "metrics", "report")  # of all that stages write
# Two runs differ in these: how long they took, which commit, what is shared by all of them.
NOT_COMPARED = ("data/timings", "data/provenance", "data/checkpoints", "data/features")


@dataclass
class Workspace:
    """A folder that holds the params and outputs of stages, and their code with small changes."""

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)  # that each stage takes undisturbed
    before: dict[str, Path] = field(default_factory=dict)  # a copy of all from before each stage
    behind: dict[str, Path] = field(default_factory=dict)  # and from after it
    after: dict[str, Mapping[str, str]] = field(default_factory=dict)  # digests from after it

    def start(self, stage: str, *wrapper: str, dvc_stage: str = "") -> subprocess.Popen[str]:
        """Start a stage; `dvc_stage` is how DVC would tell it whose it is."""
        name, *arguments = stage.split()
        return subprocess.Popen(
            [*wrapper, sys.executable, "-m", f"stages.{name}", *arguments],
            cwd=self.folder,
            env=os.environ
            | {"PYTHONPATH": str(self.folder), "PYTHONUNBUFFERED": "1"}
            | ({"DVC_STAGE": dvc_stage} if dvc_stage else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A process started in the background would ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def run(self, stage: str, *wrapper: str, fails: bool = False, dvc_stage: str = "") -> str:
        with self.start(stage, *wrapper, dvc_stage=dvc_stage) as process:
            output, _ = process.communicate()
        assert (process.returncode != 0) == fails, output
        return output

    def digests(self, hidden: bool = False) -> dict[str, str]:
        """Of all outputs by their paths."""
        files = (
            path
            for top in TOPS
            for path in (self.folder / top).rglob("*")
            if path.is_file() and (hidden or not path.name.startswith("."))
        )
        names = {path.relative_to(self.folder).as_posix(): path for path in files}
        return {n: digest(path) for n, path in names.items() if not n.startswith(NOT_COMPARED)}

    def keep(self, copy: Path) -> Path:
        """Copy all outputs."""
        copy.mkdir(parents=True)
        for top in TOPS:
            if (self.folder / top).is_dir():
                shutil.copytree(self.folder / top, copy / top)
        return copy

    def put_back(self, copy: Path) -> None:
        """Make the outputs those of a copy."""
        for top in TOPS:
            shutil.rmtree(self.folder / top, ignore_errors=True)
            if (copy / top).is_dir():
                shutil.copytree(copy / top, self.folder / top)


def make_workspace(folder: Path, weights: Path, images: Path | None = None) -> Workspace:
    """A workspace of sixty drawn portraits, or of an archive, in which nothing has run."""
    folder.mkdir(parents=True)
    for name in ("stages", "forgotten"):
        shutil.copytree(TOP / name, folder / name)
    for name in ("dvc.yaml", "variants.toml"):
        shutil.copy(TOP / name, folder)
    recipe = folder / "stages/learning/fit.py"
    text = recipe.read_text()
    assert "CHECKPOINT_SECONDS = 60.0" in text
    recipe.write_text(text.replace("CHECKPOINT_SECONDS = 60.0", "CHECKPOINT_SECONDS = 0.0"))
    yaml = YAML()
    params = yaml.load(TOP / "params.yaml")
    params["runs"], params["data"]["demo"]["portraits"] = [VARIANT, f"{VARIANT}+seed-2"], 60
    params["train"]["max_epochs"] = 3
    params["pretrained"]["retinaface-mobilenet025"] = str(weights)
    if images is not None:
        params["data"] |= {"source": "local", "local": [str(images)]}
    yaml.dump(params, folder / "params.yaml")
    return Workspace(folder)
