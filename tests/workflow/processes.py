"""Commands as a user would type them, in a folder of their own."""

import os
import subprocess
import sys
from pathlib import Path


def environment() -> dict[str, str]:
    """The present one with the tools of this Python on the path, and a wide terminal."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "COLUMNS": "300"}


def call(folder: Path, *command: str, fails: bool = False) -> str:
    """Run a command that must succeed, or must fail; returns what it printed."""
    done = subprocess.run(
        command, cwd=folder, env=environment(), text=True, capture_output=True, check=False
    )
    assert (done.returncode != 0) == fails, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr
