"""The bytes of a training depend on the number of threads, which is a setting, not on the cores."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, sys
os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: int(sys.argv[2])]))
sys.path[:0] = ["tests/model"]
from stages.networks import device
device.prepare("cpu", seed=1, threads=int(sys.argv[1]))
import hashlib, keras, numpy as np
from specs import network_of
random = np.random.default_rng(1)
images = random.integers(0, 255, (64, 100, 100, 3), dtype=np.uint8)
network = network_of("cnn", "all", "plain", "unit", {"age": 5}, 100)
network.compile(keras.optimizers.Adam(1e-3), {"age": "sparse_categorical_crossentropy"})
network.fit(images, {"age": random.integers(0, 5, 64)}, 32, 2, shuffle=False, verbose=0)
values = b"".join(weights.tobytes() for weights in network.get_weights())
print(hashlib.sha256(values).hexdigest(), device.usable_cores())
"""


def weights_after(threads: int, cores: int) -> str:
    """The digest of a network trained with so many threads on so many cores."""
    command = [sys.executable, "-c", SCRIPT, str(threads), str(cores)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    digest, usable = ran.stdout.split()
    assert int(usable) == cores
    return digest


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs Linux and two cores",
)
def test_a_fixed_number_of_threads_gives_the_same_bytes_on_one_core_and_on_two():
    fixed = {weights_after(2, cores) for cores in (1, 2)}
    assert len(fixed) == 1
    assert weights_after(0, 2) in fixed, "a thread per core is what 0 means"
    assert weights_after(0, 1) not in fixed, "the number of threads has begun not to matter"
