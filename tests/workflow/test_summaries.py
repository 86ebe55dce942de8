"""Every node and command tells what it did in one line, and draws no bar where nobody looks on.

All of them run once, one after another in one process, in a small workspace.
"""

import contextlib
import fcntl
import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from processes import call, environment
from ruamel.yaml import YAML
from stage_processes import TOP

from stages.acquisition.demo import write_demo

pytestmark = pytest.mark.long

VARIANT = "mtl-cnn"
SEARCH = {
    "variant": VARIANT,
    "epochs": 1,
    "subset": {"train": 1.0, "val": 1.0},
    "vary": "together",
    "grid": {"batch_size": [16]},
    "published": {},
}
# Each as it is called, in this order.
COMMANDS = (
    *("validate", "download", "plan", "pretrained", "detect", "split", "lists"),
    *(f"train {VARIANT}", f"evaluate {VARIANT}", "audit", "compare", "report"),
    f"score --predictions data/predictions/{VARIANT}.csv --split data/split/split.csv --output s",
    f"export {VARIANT} --formats float16",
    f"predict faces.tar --model models/{VARIANT} --output answers.jsonl",
    f"capacity --variants {VARIANT} --steps 1",
    "publish --name faces",
    "restore faces restored",
    "tune table small",
    "tune queue small",
    f"suite table {VARIANT}",
    "forget {name}",
)
DATA = ("variants", f"predict faces.tar --model models/{VARIANT}")  # whose standard output is data
DRIVER = """
import importlib, importlib.util, os, sys
for number, command in enumerate(sys.argv[1:]):
    if "{name}" in command:
        first = open("data/split/split.csv").read().splitlines()[1]
        command = command.format(name=first.split(",")[0])
    name, *arguments = command.split()
    module = f"stages.{name}"
    if importlib.util.find_spec(module) is None:
        module = f"stages.commands.{name}"
    sys.argv = [module, *arguments]
    for stream, kind in ((1, "out"), (2, "err")):
        file = os.open(f"told/{number}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream)
        os.close(file)
    try:
        importlib.import_module(module).main()
    except SystemExit as end:
        if (name, end.code) != ("predict", 3):  # the images have some that cannot be read
            raise
    sys.stdout.flush()
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, mobilenet_weights: Path) -> Path:
    """A DVC repository with the params of a small workspace and its images; nothing has run."""
    top = tmp_path_factory.mktemp("summaries")
    for folder in ("docs", "forgotten", "told"):
        (top / folder).mkdir()
    for file in ("README.md", "docs/leak.md", "forgotten/images.csv", "forgotten/models.csv"):
        (top / file).write_text((TOP / file).read_text())
    write_demo(top / "faces.tar", 60, 1)
    yaml = YAML()
    params = yaml.load(TOP / "params.yaml")
    params["runs"] = [VARIANT]
    params["data"] |= {"source": "local", "local": ["faces.tar"]}
    params["pretrained"]["retinaface-mobilenet025"] = str(mobilenet_weights)
    params["train"] |= {"max_epochs": 2, "precision": "float32"}
    params["evaluate"]["resamples"] = 100
    params["searches"] = {"small": SEARCH}
    yaml.dump(params, top / "params.yaml")
    lines = (TOP / "variants.toml").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{VARIANT} "))
    (top / "variants.toml").write_text(f"{line}\n")
    (top / "dvc.yaml").write_text((TOP / "dvc.yaml").read_text())
    (top / "stages").symlink_to(TOP / "stages")
    (top / ".gitignore").write_text(
        (TOP / ".gitignore").read_text()
        + "/docs/\n/told/\n/s/\n/restored/\n/answers.jsonl\n/*.tar\n"
    )
    for command in (
        *("git init -q", "git config user.name test", "git config user.email test@localhost"),
        *("dvc init -q", "git add -A", "git commit -qm small"),
    ):
        call(top, *command.split())
    return top


@pytest.fixture(scope="module")
def told(workspace: Path) -> dict[str, tuple[str, str]]:
    """What each command wrote to standard output and standard error, which are no terminal."""
    commands = (*COMMANDS[:-1], *DATA, COMMANDS[-1])  # what is forgotten is forgotten last
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, *commands],
        cwd=workspace,
        env=environment() | {"PYTHONPATH": str(TOP)},
        text=True,
        capture_output=True,
        check=False,
    )
    files = workspace / "told"
    texts = [
        tuple((files / f"{n}.{kind}").read_text() for kind in ("out", "err"))
        for n in range(len(list(files.glob("*.out"))))
    ]
    assert done.returncode == 0, (commands[len(texts) - 1], *texts[-1])
    return dict(zip(commands, texts, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_last_line_tells_what_was_done_and_no_bar_is_drawn(
    command: str, told: dict[str, tuple[str, str]]
) -> None:
    out, err = told[command]
    name = f"{command.split()[0]}: "
    lines = out.splitlines()
    assert lines[-1].startswith(name)
    assert not lines[-1].endswith(":")
    assert [line.startswith(name) for line in lines].count(True) == 1
    for mark in ("\r", "\x1b", "it/s]", "%|"):
        assert mark not in err


@pytest.mark.parametrize("command", DATA)
def test_where_the_output_is_data_there_is_nothing_else_in_it(
    command: str, told: dict[str, tuple[str, str]]
) -> None:
    out, err = told[command]
    lines = out.splitlines()
    assert all(line.startswith(f"caution: models/{VARIANT}: It") for line in err.splitlines())
    assert (err == "") == (command == "variants")
    if command == "variants":
        assert [line.split(",")[0] for line in lines] == ["name", VARIANT]
    else:
        assert all(json.loads(line)["image"] for line in lines)


def test_on_a_terminal_a_bar_is_drawn_and_the_output_is_the_same(
    workspace: Path, tmp_path: Path
) -> None:
    text = (workspace / "params.yaml").read_text().replace("source: local", "source: demo")
    (tmp_path / "params.yaml").write_text(text.replace("portraits: 300", "portraits: 60"))
    shutil.copy(workspace / "variants.toml", tmp_path)
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    done = subprocess.run(
        [sys.executable, "-m", "stages.download"],
        cwd=tmp_path,
        env=environment() | {"PYTHONPATH": str(TOP)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=child,
        check=True,
    )
    os.close(child)
    shown = ""
    with contextlib.suppress(OSError):  # how a terminal ends that nobody writes to any more
        while part := os.read(parent, 1 << 16):
            shown += part.decode()
    os.close(parent)
    assert "drawing" in shown
    assert "%|" in shown
    assert done.stdout.startswith("download: demo, 1 archive,")
    assert len(done.stdout.splitlines()) == 1
