"""All figures of a run from its prediction files and split.csv alone: `utkface-mtl score`.

Neither TensorFlow nor the rest of the workspace is needed. The output folder gets the same files as
data/evaluation/<run>/ except costs.json, byte for byte; only calibration.json cannot state whether
predictions are means with the flipped image (null).
"""

import argparse
import sys
from pathlib import Path

from stages.core.params import load_params
from stages.core.paths import PARAMS_FILE
from stages.core.sections import TASKS
from stages.dataset.split_files import read_split
from stages.evaluation.evaluate import evaluate_files
from stages.evaluation.predictions import count_splits, read_predictions


def main() -> None:
    """Score the named files by the rules of params.yaml."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--predictions", type=Path, required=True, help="data/predictions/<run>.csv")
    add("--val-predictions", type=Path, help="data/predictions/<run>.val.csv, for temperatures")
    add("--split", type=Path, required=True, help="data/split/split.csv")
    add("--output", type=Path, required=True, help="folder that is written to")
    add("--params", type=Path, default=PARAMS_FILE, help="classes and rules: %(default)s")
    arguments = parser.parse_args()
    params = load_params(arguments.params)
    classes = {task: params.classes.of(task) for task in TASKS}
    split, val = read_split(arguments.split), arguments.val_predictions
    # Temperatures fitted on test images, or scores on training images, would flatter.
    for file in (arguments.predictions, *([val] if val else [])):
        counts = count_splits(read_predictions(file, classes), split)
        print(f"{file}: images by split: {counts}", file=sys.stderr)
    found = evaluate_files(arguments.predictions, val, split, params)
    found.write(arguments.output)
    print(f"score: {found.in_one_line}")
