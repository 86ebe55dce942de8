"""Steps compiled by XLA, in a process of its own: here deterministic operations forbid it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).parents[2]
pytestmark = pytest.mark.long

SCRIPT = """
import json
from pathlib import Path
from specs import network_of

from stages.networks import device

device.CPU_FLAGS = Path("none")  # so that it may be used on any CPU
usable = device.prepare("cpu", xla=True)[1]
import keras, numpy as np
from stages.core.variants import Augmentation
from stages.learning.augmentation import Augment
from stages.learning.objective import Learner, Objective

CLASSES = {"age": 5, "gender": 2, "race": 5}
random = np.random.default_rng(1)
images = random.integers(0, 256, (8, 32, 32, 3), np.uint8)
labels = {task: random.integers(0, number, 8) for task, number in CLASSES.items()}
KINDS = tuple(name for name in Augmentation.model_fields if name != "flip")
CHANGES = Augmentation(**dict.fromkeys(KINDS, 0.0) | {"flip": True, "rotation": 20.0})

def learnt(xla, dropout, augment):
    keras.utils.set_random_seed(3)
    network = network_of("vgg16", "block5", "ge_am", "unit", CLASSES, 32, dropout=dropout)
    even = dict.fromkeys(CLASSES, 1.0)
    objective = Objective(CLASSES, even, dict.fromkeys(CLASSES, 0.0), None, 2.0, False)
    learner = Learner(network, objective, Augment(CHANGES, 1) if augment else None, xla=xla)
    learner.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    start = np.concatenate([w.ravel() for w in network.get_weights()])
    learner.fit(images, labels, batch_size=5, epochs=2, verbose=0)  # two sizes of batches
    return np.concatenate([w.ravel() for w in network.get_weights()]) - start

plain, compiled, again = (learnt(xla, 0.0, False) for xla in (False, True, True))
rich, rich_again = (learnt(True, 0.3, True) for _ in range(2))
print(json.dumps(dict(
    usable=usable, moved=float(np.abs(plain).max()),
    apart=float(np.abs(plain - compiled).max()),
    same=bool((compiled == again).all()), rich_same=bool((rich == rich_again).all()),
    rich_apart=float(np.abs(rich - compiled).max()))))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What the script finds."""
    command, path = [sys.executable, "-c", SCRIPT], f"{TOP}{os.pathsep}{Path(__file__).parent}"
    settings = {"cwd": TOP, "env": os.environ | {"PYTHONPATH": path}}
    done = subprocess.run(command, **settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_it_learns_what_the_plain_step_learns(found: dict[str, Any]):
    assert found["usable"]
    assert found["moved"] > 1e-3
    assert found["apart"] < found["moved"] / 1000


def test_it_gives_the_same_bytes_again_also_with_dropout_and_augmentation(found: dict[str, Any]):
    assert found["same"]
    assert found["rich_same"]
    assert found["rich_apart"] > found["moved"] / 10
