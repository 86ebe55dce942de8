"""Node evaluate: one variant's predictions for the test split, and their scores."""

import argparse
from pathlib import Path

from stages.faces.examples import read_examples
from stages.learning import device
from stages.reporting.scores import (
    confusion,
    per_class,
    prediction_table,
    read_predictions,
    summarise,
)
from stages.workspace.errors import UserError, run_node
from stages.workspace.files import write_csv, write_json
from stages.workspace.params import load_params

FACES = Path("data/faces")
SPLIT = Path("data/split/split.csv")
BATCH_SIZE = 64  # images; without influence on the result


def main() -> None:
    """Predict the test split with the variant named on the command line, then score it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", help="a name from variants in params.yaml")
    name = parser.parse_args().variant
    params = load_params()
    if name not in params.variants:
        raise UserError(f"variant {name!r} is not in variants of params.yaml")
    tasks = params.variants[name].task_list
    device.prepare(params.machine.device, params.machine.memory_growth, seed=params.seed)
    from stages.learning.batches import predict_rows
    from stages.learning.network import load_network

    test = read_examples(FACES, SPLIT, "test", tasks, params.classes.age_upper_bounds)
    model = load_network(Path("models") / name / "model.keras")
    probabilities = predict_rows(model, test.crops, test.rows, BATCH_SIZE)
    classes = {task: params.classes.of(task) for task in tasks}
    file = Path("data/predictions") / f"{name}.csv"
    write_csv(file, prediction_table(test.names, test.labels, probabilities, classes))

    predictions = read_predictions(file, classes)
    details = Path("data/evaluation") / name
    write_csv(details / "per_class.csv", per_class(predictions, classes))
    write_csv(details / "confusion.csv", confusion(predictions, classes))
    summary = summarise(predictions, classes)
    write_json(Path("metrics") / f"{name}.json", summary)
    print(f"evaluate {name}: {summary}")


if __name__ == "__main__":
    run_node(main)
