"""A small training as a process of its own: `replicated.py REQUEST`, see `test_replicas.py`.

REQUEST is JSON: `devices` (logical CPUs), `choice` (machine.strategy), `patience`, `execution`
and `recipe` (changes), `train` and `val` (numbers of images), `checkpoints` (a folder), `output`
(a file that gets the figures of each epoch and the sum of all weights), `dawdle` (seconds after
each checkpoint), `precision`, `backbone`, `trainable`, `unequal` (workers that differ).
A checkpoint is written after each epoch.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import tensorflow as tf

REQUEST = json.loads(sys.argv[1])
CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    CPU, [tf.config.LogicalDeviceConfiguration()] * REQUEST.get("devices", 1)
)

from stages.core.stage import run_stage  # noqa: E402
from stages.networks import device  # noqa: E402

device.prepare(
    device="cpu",
    precision=REQUEST.get("precision", "float32"),
    deterministic=not REQUEST.get("execution", {}).get("xla", False),  # they do not go together
    seed=1,
)


def main() -> None:
    from stages.learning.replicas import find_replicas

    replicas = find_replicas(REQUEST["choice"], REQUEST.get("patience", 0.0))
    import numpy as np
    import test_fit as small

    from stages.learning import fit
    from stages.learning.checkpoints import Checkpoints

    fit.CHECKPOINT_SECONDS = 0.0
    execution = fit.Execution(**REQUEST.get("execution", {}), replicas=replicas)
    with execution.scope():
        model = small.network(REQUEST.get("backbone", "cnn"), REQUEST.get("trainable", "all"))
    identity = f"of {replicas.worker}" if REQUEST.get("unequal") else "of all"
    told = []

    def log(epoch: int, figures: dict[str, float]) -> None:
        told.append(figures)
        print(f"epoch {epoch + 1}", flush=True)

    class Dawdling(Checkpoints):
        def save(self, *state: Any) -> None:
            super().save(*state)
            time.sleep(REQUEST.get("dawdle", 0))

    train, val = small.examples(REQUEST["train"], 1), small.examples(REQUEST["val"], 2)
    fit.fit(
        model,
        fit.Data(small.IMAGES, train, val),
        small.settings_of(**REQUEST.get("recipe", {})),
        lambda frozen: frozen.predict(small.IMAGES, batch_size=6, verbose=0),
        Dawdling(Path(REQUEST["checkpoints"]), identity),
        log,
        execution,
    )
    weights = float(sum(np.abs(w).sum(dtype=np.float64) for w in model.get_weights()))
    Path(REQUEST["output"]).write_text(json.dumps({"told": told, "weights": weights}))


run_stage(main)
