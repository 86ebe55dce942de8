"""A capacity plan: how long trainings would take on this machine: `utkface-mtl capacity`.

Each variant is probed for some steps, as it would be trained by params.yaml (device, precision,
XLA, steps per execution) but from random weights, which cost the same, and all in one process:
where one of them is compiled by XLA, `train.deterministic` holds for none.

The plan is for all epochs of a variant, regardless of `train.max_epochs`, and counts a frozen part
once for all variants that share it. A training that stops early takes less. The plan is printed as
a table and written to `--output` as CSV: variant, batch_size, epochs; frozen_images_per_second,
training_images_per_second, small_images_per_second, validation_images_per_second; frozen_hours (0:
none, or shared with a variant above), epochs_hours, hours.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate
from tqdm import tqdm

from stages.core.errors import UserError
from stages.core.files import write_csv
from stages.core.params import load_params
from stages.networks import device
from stages.runs.resolve import Plan, resolve

# UTKFace's 23,708 aligned images by the published shares.
TRAIN, VAL = 18_966, 2_370
NOT_THE_COST = {"weights", "preprocessing"}  # of a network: speed does not depend on them
OF_THE_FROZEN_PART = {"backbone", "trainable", "preprocessing", "weights"}


def main() -> None:
    """Probe every variant; print and write the plan."""
    arguments = _arguments()
    params = load_params()
    names = arguments.variants or list(params.variants)
    if unknown := sorted(set(names) - set(params.variants)):
        raise UserError(f"--variants: unknown {', '.join(unknown)}; see variants.toml")
    plans = {name: resolve(params, name, params.variants[name].epochs) for name in names}
    machine, train = params.machine, params.train
    # Whether XLA is wanted decides how TensorFlow is set up: one process has one set-up.
    wanted = any(plan.xla for plan in plans.values())
    setup = (machine.device, machine.memory_growth, train.precision, train.deterministic)
    precision, usable = device.prepare(*setup, params.seed, wanted, train.threads)
    import keras

    from stages.learning.fit import Execution
    from stages.networks.network import build_network
    from stages.profiling.capacity import hours, probe

    rows, frozen_parts, speeds = [], set(), {}
    for name, plan in tqdm(plans.items(), unit="variant", disable=None):
        xla, key = usable and plan.xla, _what_costs(plan)
        if (key, xla) not in speeds:
            keras.backend.clear_session(free_memory=True)
            keras.config.set_dtype_policy(precision)  # which the line before resets
            execution = Execution(xla, machine.steps_per_execution, machine.images_on_device)
            probed = (build_network(plan.network), plan.training, execution)
            speeds[key, xla] = probe(*probed, arguments.steps, arguments.trace)
        speed = speeds[key, xla]
        once, epochs = hours(speed, plan.training, arguments.train, arguments.val)
        frozen = json.dumps(plan.network.model_dump(include=OF_THE_FROZEN_PART), sort_keys=True)
        once = 0.0 if frozen in frozen_parts else once
        if speed.frozen is not None:
            frozen_parts.add(frozen)
        facts = {"variant": name, "batch_size": plan.training.batch_size}
        facts["epochs"] = plan.training.epochs
        for part in ("frozen", "training", "validation", "small", "small_validation"):
            facts[f"{part}_images_per_second"] = getattr(speed, part)
        rows.append(facts | {"frozen_hours": once, "epochs_hours": epochs, "hours": once + epochs})
    table = pd.DataFrame(rows)
    write_csv(arguments.output, table)
    print(tabulate(table, headers="keys", floatfmt=".4g", missingval="", showindex=False))
    total = table["hours"].sum()
    print(f"capacity: {total:.1f} hours for {len(table)} variants on {machine.device}, {precision}")


def _what_costs(plan: Plan) -> str:
    """The same text for plans that are equally fast, of which one is probed."""
    training = plan.training
    cost: dict[str, Any] = plan.network.model_dump(exclude=NOT_THE_COST)
    small = training.progressive_epochs and training.progressive_size
    augmented = training.augmentation and training.augmentation.model_dump()
    return json.dumps([cost, training.batch_size, augmented, small])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--steps", type=int, default=20, help="timed steps of each part: %(default)s")
    add("--train", type=int, default=TRAIN, help="training images: %(default)s")
    add("--val", type=int, default=VAL, help="validation images: %(default)s")
    add("--variants", nargs="+", help="names; default: all of variants.toml")
    add("--trace", type=Path, help="folder for TensorFlow's trace of some steps of each probe")
    add("--output", type=Path, default=Path("data/capacity.csv"), help="%(default)s")
    arguments = parser.parse_args()
    if min(arguments.steps, arguments.train, arguments.val) < 1:
        parser.error("--steps, --train and --val must be at least 1")
    return arguments
