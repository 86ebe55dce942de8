"""Lack of memory ends a run; it is never taken for damage of what was read, and nothing hangs."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.acquisition.portraits import draw_portrait

ROOT = Path(__file__).parents[2]
NOT_ENOUGH = ("error: not enough memory", "error: a worker process was killed, probably because")

# Two workers decode twelve pictures of 4 megapixels, in as much memory more as the process has.
SCRIPT = """
import io, resource, sys
from PIL import Image
from stages.core.stage import run_stage
from stages.detection.extraction import extract_in_processes
from stages.detection.detector import Face
from stages.raw.archives import Member
from tests.settings import detect_settings

file = io.BytesIO()
Image.effect_noise((2000, 2000), 50).convert("RGB").save(file, "PNG")
members = [Member("a.tar", f"{20 + n}_0_0_{n}.png", file.getvalue()) for n in range(12)]

def load():
    return lambda image: [Face(0.99, 10.0, 10.0, 1500.0, 1500.0)]

def main():
    for row, _ in extract_in_processes(members, load, detect_settings(), 2):
        print(row.status, row.reason)

used = 1024 * int(open("/proc/self/status").read().split("VmSize:")[1].split()[0])
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]),) * 2)
run_stage(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limit of a process's memory")
@pytest.mark.parametrize("more", [2, 10, 30, 60, 100, 2000])
def test_what_does_not_fit_into_memory_is_no_damage(more: int):
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(more << 20)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert set(ran.stdout.splitlines()) <= {"cropped "}, "lack of memory was recorded as damage"
    if ran.returncode == 0:
        assert len(ran.stdout.splitlines()) == 12
        assert more > 30
    else:
        assert (ran.returncode, more < 2000) == (1, True)
        assert ran.stderr.splitlines()[-1].startswith(NOT_ENOUGH)


# A worker that may have less memory than a batch takes, where its caller has enough.
RECEIVE = """
import resource
from stages.core.stage import run_stage
from stages.parallel.processes import side_by_side

def make():
    used = 1024 * int(open("/proc/self/status").read().split("VmSize:")[1].split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (used + (30 << 20),) * 2)
    return len

run_stage(lambda: print(list(side_by_side(make, [bytes(100 << 20)], 1, len))))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limit of a process's memory")
def test_a_worker_that_cannot_receive_a_batch_ends_the_run_with_one_line():
    command = [sys.executable, "-c", RECEIVE]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    (line,) = ran.stderr.splitlines()
    assert line.startswith(NOT_ENOUGH)
    assert ran.returncode == 1


@pytest.mark.parametrize(
    "said",
    [
        'RuntimeError("can\'t start new thread")',
        "RuntimeError('std::bad_alloc')",
        "OSError(12, 'Cannot allocate memory')",
        "MemoryError()",
    ],
)
def test_every_library_s_words_for_it_end_a_run_alike(said: str):
    script = f"from stages.core.stage import run_stage\ndef main(): raise {said}\nrun_stage(main)"
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (1, "error: not enough memory\n")


def test_a_verb_whose_libraries_do_not_fit_ends_so_too():
    script = """
import importlib, sys
from stages.commands import __main__
def load(name): raise ImportError("cv2.abi3.so: failed to map segment from shared object")
importlib.import_module = load
sys.argv = ["utkface-mtl", "predict", "photo.jpg"]
__main__.main()
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (1, "error: not enough memory\n")


PREDICT = """
import resource, sys
import cv2, onnxruntime
from stages.commands import predict
from stages.core.stage import run_stage

more, *sys.argv = sys.argv[1:]
used = 1024 * int(open("/proc/self/status").read().split("VmSize:")[1].split()[0])
resource.setrlimit(resource.RLIMIT_AS, (used + (int(more) << 20),) * 2)
run_stage(predict.main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limit of a process's memory")
def test_a_network_that_does_not_fit_is_not_called_damaged(mobilenet_weights: Path, tmp_path: Path):
    Image.fromarray(draw_portrait(35, 1, 2, np.random.default_rng(3))).save(tmp_path / "a.png")
    for more in (*range(0, 60, 5), 100, 150, 200, 4000):
        command = ["predict", "a.png", "--detector", str(mobilenet_weights)]
        ran = subprocess.run(
            [sys.executable, "-c", PREDICT, str(more), *command],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        if ran.returncode == 0:
            assert more > 60
            assert '"error"' not in ran.stdout
        else:
            assert (ran.returncode, more < 4000) == (1, True), more
            assert ran.stderr.splitlines()[-1] == "error: not enough memory", more
