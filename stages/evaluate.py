"""Node evaluate: one variant's predictions for its test images, and their scores."""

from pathlib import Path

from stages.faces.examples import read_examples, was_trained_on
from stages.learning import device
from stages.reporting.scores import (
    confusion,
    per_class,
    prediction_table,
    read_predictions,
    summarise,
)
from stages.workspace.errors import run_node
from stages.workspace.files import write_csv, write_json
from stages.workspace.params import load_params
from stages.workspace.plans import parse_arguments, read_run

FACES = Path("data/faces")
BATCH_SIZE = 64  # images; without influence on the result


def main() -> None:
    """Predict the test images with the run named on the command line, then score it."""
    arguments = parse_arguments(__doc__)
    params = load_params()
    run = read_run(params, arguments.variant, arguments.condition)
    device.prepare(params.machine.device, params.machine.memory_growth, seed=run.seed)
    from stages.learning.batches import predict_rows
    from stages.learning.network import load_network

    test = read_examples(FACES, run.lists, "test", run.tasks, params.classes.age_upper_bounds)
    folder = Path("models") / run.name
    model = load_network(folder / "model.keras")
    outputs = predict_rows(model, test.crops, test.rows, BATCH_SIZE, params.evaluate.mirrored)
    classes = {task: params.classes.of(task) for task in run.tasks}
    file = Path("data/predictions") / f"{run.name}.csv"
    table = prediction_table(test.names, test.labels, outputs, classes, test.ages)
    write_csv(file, table.assign(trained_on=was_trained_on(test.names, folder / "images.csv")))

    predictions = read_predictions(file, classes)
    details = Path("data/evaluation") / run.name
    write_csv(details / "per_class.csv", per_class(predictions, classes))
    write_csv(details / "confusion.csv", confusion(predictions, classes))
    summary = summarise(predictions, classes)
    write_json(Path("metrics") / f"{run.name}.json", summary)
    print(f"evaluate {run.name}: {summary}")


if __name__ == "__main__":
    run_node(main)
