"""Node train: one variant, from crops and split to models/<variant>/."""

import argparse
import json
import shutil
from pathlib import Path

from dvclive import Live

from stages.faces.examples import read_examples
from stages.learning import device
from stages.workspace.errors import UserError, run_node
from stages.workspace.files import whole_file, write_json
from stages.workspace.params import load_params

FACES = Path("data/faces")
SPLIT = Path("data/split/split.csv")
PRETRAINED = Path("data/pretrained")


def main() -> None:
    """Train the variant named on the command line; write its network, summary and curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", help="a name from variants in params.yaml")
    name = parser.parse_args().variant
    params = load_params()
    if name not in params.variants or name not in params.training:
        raise UserError(f"variant {name!r} is not in variants and training of params.yaml")
    variant, training = params.variants[name], params.training[name]
    precision = device.prepare(
        params.machine.device,
        params.machine.memory_growth,
        params.train.precision,
        params.train.deterministic,
        params.seed,
    )
    from stages.learning.network import build_network, in_float32, save_network
    from stages.learning.recipe import Examples, Recipe, fit

    tasks = variant.task_list
    train, val = (
        read_examples(FACES, SPLIT, side, tasks, params.classes.age_upper_bounds)
        for side in ("train", "val")
    )
    structure = variant.model_dump(exclude={"tasks", "weights"}) | {
        "classes": {task: len(params.classes.of(task)) for task in tasks},
        "size": params.detect.size,
    }
    manifest = json.loads((PRETRAINED / "variants" / f"{name}.json").read_text(encoding="utf-8"))
    weights = PRETRAINED / manifest["file"] if manifest["file"] else None
    recipe = training.model_dump() | {
        "epochs": min(training.epochs, params.train.max_epochs),
        "task_weights": params.train.task_weights.model_dump(),
    }
    folder, curves = Path("models") / name, Path("data/curves") / name
    shutil.rmtree(curves, ignore_errors=True)
    model = build_network(**structure, weights=weights)
    with Live(str(curves), dvcyaml=None, save_dvc_exp=False, report=None) as live:

        def log(epoch: int, figures: dict[str, float]) -> None:
            for figure, value in figures.items():
                live.log_metric(figure, value)
            live.next_step()
            print(
                f"train {name}: epoch {epoch + 1}, val score {figures['val/score']:.4f}", flush=True
            )

        summary = fit(
            model,
            Examples(train.crops, train.rows, train.labels),
            Examples(val.crops, val.rows, val.labels),
            Recipe(**recipe),
            params.seed,
            Path("data/features") / name,
            log,
        )
    with whole_file(folder / "model.keras") as partial:
        save_network(in_float32(model, **structure), partial)
    write_json(folder / "training.json", {"precision": precision, **summary})
    print(f"train {name}: best epoch {summary['best_epoch']} of {summary['epochs']}")


if __name__ == "__main__":
    run_node(main)
