"""What a figure was measured on, and with how much memory."""

import os
import platform
import resource
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import psutil

PACKAGES = (
    "numpy",
    "pillow",
    "opencv-contrib-python-headless",
    "onnxruntime",
    "retina-face",
    "tensorflow",
    "keras",
    "pandas",
    "dvc",
)
STATUS = Path("/proc/self/status")
SAMPLE_SECONDS = 0.01
MIB = 2**20


def describe_machine() -> dict[str, object]:
    """Processor, cores, memory and system; GPUs as nvidia-smi names them."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "gpus": _gpus(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def describe_versions() -> dict[str, str]:
    """Versions of Python, of the packages that count, and of this project's commit."""
    command = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    versions = {package: version(package) for package in PACKAGES}
    return {"commit": commit, "python": platform.python_version(), **versions}


def _cpu() -> str:
    file = Path("/proc/cpuinfo")
    if file.is_file():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _gpus() -> list[str]:
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def memory_mib() -> float:
    """Memory of this process that is its own, in MiB.

    Pages of files that are mapped are left out: the system takes them back when it needs them.
    Where it does not tell them apart (outside Linux), they are in.
    """
    return _status("RssAnon") or float(psutil.Process().memory_info().rss) / MIB


def _status(field: str) -> float | None:
    """A field of Linux's status of this process, in MiB."""
    if not STATUS.is_file():
        return None
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    values = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(values[0]) / 1024 if values else None


def peak_resident_mib() -> float:
    """The largest resident memory of this process so far, mapped pages included, in MiB."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """Watch `memory_mib` from a thread; on exit the dict has `before` and `peak`."""
    found = {"before": memory_mib()}
    found["peak"] = found["before"]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            found["peak"] = max(found["peak"], memory_mib())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
        found["peak"] = max(found["peak"], memory_mib())
        for key, value in found.items():
            found[key] = round(value, 1)
