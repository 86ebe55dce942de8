"""Node evaluate: one run's predictions for its val and test images, and what they are worth."""

import json
from pathlib import Path

from stages.core.errors import refuse_changes, run_stage
from stages.core.files import write_csv, write_json
from stages.core.params import TASKS, load_params
from stages.core.snapshot import snapshot_at_start
from stages.dataset.examples import count_used, read_examples, was_trained_on
from stages.evaluation.evaluate import Rules, evaluate_files
from stages.evaluation.predictions import prediction_file, prediction_table
from stages.networks import device
from stages.networks.prediction import BATCH_SIZE, predict_rows
from stages.networks.progress import Watched
from stages.runs.resolve import parse_arguments, read_run
from stages.splitting.stratified import read_split

FACES = Path("data/faces")
SPLIT = Path("data/split/split.csv")
PREDICTIONS = Path("data/predictions")
PROVENANCE = Path("data/provenance")


def main() -> None:
    """Predict with the run named on the command line, then score what was written."""
    arguments = parse_arguments(__doc__)
    params = load_params()
    run = read_run(params, arguments.variant, arguments.condition)
    if arguments.condition and snapshot_at_start():  # the node's command before this one was train
        trained = json.loads((PROVENANCE / f"{run.name}.json").read_text(encoding="utf-8"))
        refuse_changes(trained["basis"])
    device.prepare(params.machine.device, params.machine.memory_growth, seed=run.seed)
    from stages.evaluation.costs import costs_of, training_costs
    from stages.networks.network import load_network

    folder = Path("models") / run.name
    model = load_network(folder / "model.keras")
    classes = {task: params.classes.of(task) for task in TASKS}
    files = {side: prediction_file(PREDICTIONS, run.name, side) for side in ("test", "val")}
    mirrored = params.evaluate.mirrored
    for side, file in files.items():
        faces = read_examples(FACES, run.lists, side, TASKS, params.classes.age_upper_bounds)
        with Watched(model, len(faces.rows) * (1 + mirrored), f"predicting {side}") as network:
            outputs = predict_rows(network, faces.crops, faces.rows, BATCH_SIZE, mirrored)
        table = prediction_table(faces.names, faces.labels, outputs, classes, faces.ages)
        if side == "test":
            table["trained_on"] = was_trained_on(faces.names, folder / "images.csv")
        write_csv(file, table)

    rules = Rules.of(params)
    found = evaluate_files(files["test"], files["val"], read_split(SPLIT), classes, rules)
    details = Path("data/evaluation") / run.name
    found.write(details, Path("metrics") / f"{run.name}.json", mirrored)
    changed = run.recipe["augmentation"] is not None
    small = run.recipe["progressive_epochs"], run.recipe["progressive_size"]
    trained = training_costs(model, *count_used(folder / "images.csv"), changed, small)
    write_json(details / "costs.json", costs_of(model, folder / "model.keras") | trained)
    print(f"evaluate: {run.name}: {found.in_one_line}")


if __name__ == "__main__":
    run_stage(main)
