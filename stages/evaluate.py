"""Stage evaluate: one run's predictions for its val and test images, and their scores."""

from stages.core.files import write_csv, write_json
from stages.core.params import load_params
from stages.core.paths import FACES, SPLIT, RunPaths
from stages.core.sections import TASKS
from stages.core.stage import run_stage
from stages.dataset.examples import count_used, read_examples, was_trained_on
from stages.dataset.split_files import read_split
from stages.evaluation.evaluate import evaluate_files
from stages.evaluation.predictions import prediction_table
from stages.evaluation.progress import watched
from stages.networks import device
from stages.networks.prediction import BATCH_SIZE, predict_rows
from stages.runs.resolve import read_plan, run_parser


def main() -> None:
    """Predict with the run named on the command line, then score what was written."""
    plan = read_plan(run_parser(__doc__).parse_args().run)
    params, paths = load_params(), RunPaths(plan.run)
    machine, seed = params.machine, plan.training.seed
    device.prepare(machine.device, machine.memory_growth, seed=seed, threads=plan.threads)
    from stages.evaluation.costs import costs_of, training_costs
    from stages.networks.network import load_network

    model = load_network(paths.network)
    classes = {task: params.classes.of(task) for task in TASKS}
    flip_tta = params.evaluate.flip_tta
    for split in ("test", "val"):
        faces = read_examples(FACES, paths.lists, split, TASKS, plan.network.age_upper_bounds)
        with watched(model, len(faces.rows) * (1 + flip_tta), f"predicting {split}") as network:
            outputs = predict_rows(network, faces.crops, faces.rows, BATCH_SIZE, flip_tta)
        table = prediction_table(faces.names, faces.labels, outputs, classes, faces.ages)
        if split == "test":
            table["trained_on"] = was_trained_on(faces.names, paths.images)
        write_csv(paths.predictions(split), table)

    files = paths.predictions("test"), paths.predictions("val")
    result = evaluate_files(*files, read_split(SPLIT), params)
    result.write(paths.evaluation, flip_tta)
    write_json(paths.metrics, result.short)
    costs = costs_of(model, paths.network)
    if not plan.members:
        costs |= training_costs(model, *count_used(paths.images), plan.training)
    write_json(paths.evaluation / "costs.json", costs)
    print(f"evaluate: {plan.run}: {result.in_one_line}")


if __name__ == "__main__":
    run_stage(main)
