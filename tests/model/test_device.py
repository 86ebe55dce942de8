"""The process's TensorFlow, in a process of its own: here it is set up already."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stages.networks.device import silenced_stderr

TOP = Path(__file__).parents[2]

SCRIPT = """
import json, random, sys
from pathlib import Path
from stages.networks import device
from stages.core.stage import run_stage

try:
    run_stage(lambda: device.prepare("gpu"))
except SystemExit as ended:
    refusal = str(ended)

device.CPU_FLAGS = Path(sys.argv[2])
by_cpu = []
CPUS = (("avx2", False), ("avx2", True), ("avx2 avx512f", True), ("avx512_bf16", True),
        ("amx_bf16", False))
for flags, xla in CPUS:
    device.CPU_FLAGS.write_text("processor : 0\\nflags : fpu " + flags)
    by_cpu.append(device.prepare("auto", precision="auto", seed=3, xla=xla))
device.CPU_FLAGS.unlink()
policy, _ = device.prepare("auto", precision="auto", seed=3)
import keras, numpy as np, tensorflow as tf
from stages.networks.network import build_network, in_float32, load_network, save_network

automatic = [policy, keras.config.dtype_policy().name]
draws = lambda: [random.random(), np.random.rand(), float(tf.random.uniform(()))]
first = draws()
keras.utils.set_random_seed(3)
seeded = first == draws()

device.prepare("cpu", precision="mixed_bfloat16")
from stages.core.variants import NetworkSpec
spec = NetworkSpec(backbone="cnn", trainable="all", heads="ge_am",
                   classes={"age": 5, "gender": 2, "race": 5}, size=32)
mixed = build_network(spec)
learnt = np.random.default_rng(2).normal(1, 0.1, 100)
mixed.set_weights([w * np.resize(learnt, w.shape) for w in mixed.get_weights()])
plain = in_float32(mixed, spec)
save_network(plain, Path(sys.argv[1]))
saved = load_network(Path(sys.argv[1]))

images = np.random.default_rng(1).integers(0, 256, (8, 32, 32, 3), np.uint8)
policies = lambda model: sorted({layer.dtype_policy.name for layer in model.layers
                                 if layer.weights})
same = lambda a, b: len(a) == len(b) and all(map(np.array_equal, a, b))
distance = max(float(np.abs(np.asarray(a) - np.asarray(b)).max())
               for a, b in zip(mixed(images).values(), plain(images).values()))
print(json.dumps(dict(
    refusal=refusal, automatic=automatic, by_cpu=by_cpu, seeded=seeded,
    mixed=policies(mixed), plain=policies(plain), saved=policies(saved),
    same=same(mixed.get_weights(), plain.get_weights()),
    same_saved=same(mixed.get_weights(), saved.get_weights()),
    softmax=mixed.get_layer("age").compute_dtype, distance=distance,
    afterwards=keras.config.dtype_policy().name)))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the script finds where TensorFlow sees no GPU, on any machine."""
    file = tmp_path_factory.mktemp("device") / "model.keras"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(file), str(file.with_name("cpuinfo"))],
        cwd=TOP,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_gpu_that_is_asked_for_and_not_there_is_told_in_one_line(found: dict[str, Any]):
    wanted = "error: machine.device is gpu, but TensorFlow sees no GPU; use auto or cpu"
    assert found["refusal"] == wanted


def test_automatic_precision_is_float32_on_a_cpu_without_instructions_for_less(
    found: dict[str, Any],
):
    assert found["automatic"] == ["float32", "float32"]
    assert found["by_cpu"] == [
        *(["float32", False], ["float32", True], ["float32", False]),
        *(["mixed_bfloat16", False], ["mixed_bfloat16", False]),
    ]


def test_the_seed_is_that_of_python_numpy_and_tensorflow(found: dict[str, Any]):
    assert found["seeded"]


def test_a_mixed_network_is_kept_in_float32_with_the_same_weights(found: dict[str, Any]):
    assert found["mixed"] == ["float32", "mixed_bfloat16"]
    assert found["softmax"] == "float32", "probabilities lose the rare classes"
    assert found["plain"] == found["saved"] == ["float32"]
    assert found["same"]
    assert found["same_saved"]
    assert found["distance"] < 0.05
    assert found["afterwards"] == "mixed_bfloat16"


def test_stderr_comes_back_when_the_last_of_several_threads_is_done(capfd: pytest.CaptureFixture):
    outer, inner = silenced_stderr(), silenced_stderr()
    outer.__enter__()
    inner.__enter__()
    os.write(2, b"dropped\n")
    outer.__exit__(None, None, None)  # the first that began ends first, as threads may
    os.write(2, b"dropped too\n")
    inner.__exit__(None, None, None)
    os.write(2, b"shown\n")
    assert capfd.readouterr().err == "shown\n"
