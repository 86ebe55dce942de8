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
PROCESSES = Path("/proc")
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
    """Memory of this process and its children that is their own, in MiB.

    What forked children share with it counts for each of them. Pages of files that are mapped are
    left out: the system takes them back when it needs them. Where it does not tell them apart
    (outside Linux), they are in.
    """
    return sum(_status("RssAnon", process) or _resident(process) for process in _family())


def _resident(process: int) -> float:
    try:
        return float(psutil.Process(process).memory_info().rss) / MIB
    except psutil.NoSuchProcess:
        return 0.0


def _family() -> list[int]:
    """This process and its children; Linux tells which these are, per thread."""
    threads = list((PROCESSES / "self" / "task").glob("*/children"))
    if not threads:
        return [os.getpid(), *(child.pid for child in psutil.Process().children())]
    return [os.getpid(), *(int(each) for file in threads for each in _read(file).split())]


def _read(file: Path) -> str:
    """Its text; none of a thread or process that has ended meanwhile."""
    try:
        return file.read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _status(field: str, process: int) -> float | None:
    """A field of Linux's status of a process, in MiB."""
    lines = _read(PROCESSES / str(process) / "status").splitlines()
    values = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(values[0]) / 1024 if values else None


def peak_resident_mib() -> float:
    """The largest resident memory of this process so far, mapped pages included, in MiB."""
    return (
        _status("VmHWM", os.getpid()) or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )


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
