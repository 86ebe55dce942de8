"""Node train: one variant, from crops and lists to models/<run>/."""

import hashlib
import json
import shutil
from pathlib import Path

import pandas as pd
from dvclive import Live

from stages.faces.examples import LabelledFaces, read_examples
from stages.learning import device
from stages.workspace.errors import run_node
from stages.workspace.files import digest, whole_file, write_csv, write_json
from stages.workspace.params import load_params
from stages.workspace.plans import parse_arguments, read_run

FACES = Path("data/faces")
PRETRAINED = Path("data/pretrained")
FEATURES = Path("data/features")
CHECKPOINTS = Path("data/checkpoints")
TIMINGS = Path("data/timings")  # not tracked: no two runs take the same time
GIB = 2**30


def main() -> None:
    """Train the run named on the command line; write its network, summary and curves."""
    arguments = parse_arguments(__doc__)
    params = load_params()
    run = read_run(params, arguments.variant, arguments.condition)
    precision = device.prepare(
        params.machine.device,
        params.machine.memory_growth,
        params.train.precision,
        params.train.deterministic,
        run.seed,
    )
    from stages.learning.checkpoints import Checkpoints
    from stages.learning.features import frozen_features
    from stages.learning.heads import AGE_YEARS
    from stages.learning.network import build_network, in_float32, save_network
    from stages.learning.recipe import Examples, Recipe, fit

    train, val = (
        read_examples(FACES, run.lists, side, run.tasks, params.classes.age_upper_bounds)
        for side in ("train", "val")
    )
    classes = {task: len(params.classes.of(task)) for task in run.tasks}
    structure = run.network(classes, params.detect.size, params.classes.age_upper_bounds)
    manifest = PRETRAINED / "variants" / f"{arguments.variant}.json"
    weights = json.loads(manifest.read_text(encoding="utf-8"))
    crops = digest(FACES / "crops.npy")
    identity = [run.seed, precision, structure, run.recipe, weights, crops, digest(run.lists)]
    model = build_network(**structure, weights=weights["file"] and PRETRAINED / weights["file"])

    def examples(faces: LabelledFaces) -> Examples:
        years = {AGE_YEARS: faces.ages} if AGE_YEARS in model.output else {}
        return Examples(faces.rows, faces.labels | years)

    folder, curves = Path("models") / run.name, Path("data/curves") / run.name
    shutil.rmtree(curves, ignore_errors=True)
    with Live(str(curves), dvcyaml=None, save_dvc_exp=False, report=None) as live:

        def log(epoch: int, figures: dict[str, float]) -> None:
            for figure, value in figures.items():
                live.log_metric(figure, value)
            live.next_step()
            score = figures["val/score"]
            print(f"train {run.name}: epoch {epoch + 1}, val score {score:.4f}", flush=True)

        summary = fit(
            model,
            train.crops,
            examples(train),
            examples(val),
            classes,
            Recipe(**run.recipe),
            run.seed,
            lambda frozen: frozen_features(
                frozen, train.crops, crops, FEATURES, params.machine.features_gib * GIB
            ),
            Checkpoints(
                CHECKPOINTS / run.name, hashlib.sha256(repr(identity).encode()).hexdigest()
            ),
            log,
        )
    with whole_file(folder / "model.keras") as partial:
        save_network(in_float32(model, **structure), partial)
    sides = [
        pd.DataFrame({"name": s.names, "used_for": u}) for s, u in ((train, "train"), (val, "val"))
    ]
    write_csv(folder / "images.csv", pd.concat(sides))
    timing = {key: summary.pop(key) for key in ("seconds", "images_per_second")}
    write_json(folder / "training.json", {"precision": precision, **summary})
    write_json(TIMINGS / f"{run.name}.json", timing)
    print(f"train {run.name}: best epoch {summary['best_epoch']} of {summary['epochs']}")


if __name__ == "__main__":
    run_node(main)
