"""A capacity plan: what the published suite takes on this machine: `utkface-mtl capacity`.

Each variant is probed for some steps, as it would be trained by params.yaml (device, precision,
XLA, steps per execution) but from random weights, which cost the same, and all in one process:
where one of them is compiled by XLA, `train.deterministic` holds for none.

The plan is for all epochs of `training`, whatever `train.max_epochs` says, and counts a frozen
part once for all variants that share it. A training that stops early takes less. Printed as a
table; written to `--output` as CSV: variant, batch_size, epochs; frozen_images_per_second,
training_images_per_second, small_images_per_second, validation_images_per_second; frozen_hours (0:
none, or shared with a variant above), epochs_hours, hours.
"""

import argparse
import json
from pathlib import Path

import pandas as pd
from tabulate import tabulate
from tqdm import tqdm

from stages.core.errors import UserError, run_stage
from stages.core.files import write_csv
from stages.core.params import load_params
from stages.networks import device
from stages.runs.resolve import plan_run

# UTKFace's 23,708 aligned images by the published shares.
TRAIN, VAL = 18_966, 2_370
NOT_THE_COST = ("pretraining", "preprocessing")  # of a structure: speed does not depend on them
ONLY_THE_FROZEN_PART = ("backbone", "trainable", "preprocessing", "pretraining")


def main() -> None:
    """Probe every variant; print and write the plan."""
    arguments = _arguments()
    params = load_params()
    names = arguments.variants or list(params.variants)
    if unknown := sorted(set(names) - set(params.variants)):
        raise UserError(f"--variants: unknown {', '.join(unknown)}; see variants in params.yaml")
    machine = params.machine
    runs = {name: plan_run(params, name, epochs=params.training[name].epochs) for name in names}
    # Whether XLA is wanted decides how TensorFlow is set up: one process has one set-up.
    wanted = any(run.structure["backbone"] in params.train.xla for run in runs.values())
    precision, usable = device.prepare(
        machine.device,
        machine.memory_growth,
        params.train.precision,
        params.train.deterministic,
        params.seed,
        xla=wanted,
    )
    import keras

    from stages.learning.recipe import Execution, Recipe
    from stages.networks.network import build_network
    from stages.profiling.capacity import Speed, hours, probe

    rows, speeds, frozen_parts = [], dict[str, Speed](), set[str]()
    for name, run in tqdm(runs.items(), unit="variant", disable=None):
        classes = {task: len(params.classes.of(task)) for task in run.tasks}
        structure = run.network(classes, params.detect.size, params.classes.age_upper_bounds)
        recipe = Recipe(**run.recipe)
        xla = usable and structure["backbone"] in params.train.xla
        execution = Execution(xla, machine.steps_per_execution, machine.images_on_device)
        cost = {key: value for key, value in structure.items() if key not in NOT_THE_COST}
        small = recipe.progressive_epochs and recipe.progressive_size
        key = json.dumps([cost, recipe.batch_size, recipe.augmentation, small, xla])
        if key not in speeds:
            keras.backend.clear_session(free_memory=True)
            keras.config.set_dtype_policy(precision)  # which the line before resets
            model = build_network(**structure)
            speeds[key] = probe(model, classes, recipe, execution, arguments.steps, params.seed)
        speed = speeds[key]
        plan = hours(speed, recipe, arguments.train, arguments.val)
        frozen = json.dumps([structure[part] for part in ONLY_THE_FROZEN_PART])
        once = 0.0 if frozen in frozen_parts else plan.frozen
        if speed.frozen is not None:
            frozen_parts.add(frozen)
        rows.append(
            {
                "variant": name,
                "batch_size": recipe.batch_size,
                "epochs": recipe.epochs,
                "frozen_images_per_second": speed.frozen,
                "training_images_per_second": speed.training,
                "small_images_per_second": speed.small,
                "validation_images_per_second": speed.validation,
                "frozen_hours": once,
                "epochs_hours": plan.epochs,
                "hours": once + plan.epochs,
            }
        )
    table = pd.DataFrame(rows)
    write_csv(arguments.output, table)
    print(tabulate(table, headers="keys", floatfmt=".4g", missingval="", showindex=False))
    total = table["hours"].sum()
    print(f"capacity: {total:.1f} hours for {len(table)} variants on {machine.device}, {precision}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--steps", type=int, default=20, help="timed steps of each part: %(default)s")
    add("--train", type=int, default=TRAIN, help="training images: %(default)s")
    add("--val", type=int, default=VAL, help="validation images: %(default)s")
    add("--variants", nargs="+", help="names; default: all of params.yaml")
    add("--output", type=Path, default=Path("data/capacity.csv"), help="%(default)s")
    arguments = parser.parse_args()
    if min(arguments.steps, arguments.train, arguments.val) < 1:
        parser.error("--steps, --train and --val must be at least 1")
    return arguments


if __name__ == "__main__":
    run_stage(main)
