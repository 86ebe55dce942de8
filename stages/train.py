"""Node train: one variant, from crops and lists to models/<run>/."""

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from dvclive import Live
from tqdm import tqdm

from stages.core.errors import refuse_changes, run_stage
from stages.core.files import PARTIAL_SUFFIX, atomic_write, digest, write_csv, write_json
from stages.core.params import load_params
from stages.core.snapshot import basis
from stages.dataset.examples import LabelledFaces, read_examples
from stages.networks import device
from stages.runs.caches import remove_older, shared_folder
from stages.runs.input_spec import INPUT_SPEC_FILE, InputSpec
from stages.runs.provenance import (
    environment,
    fingerprint,
    history,
    refuse_repository_without_commit,
)
from stages.runs.resolve import read_run, run_parser

if TYPE_CHECKING:
    from stages.learning.recipe import Log

FACES = Path("data/faces")
PRETRAINED = Path("data/pretrained")
TRAINING = Path("data/training")
TIMINGS = Path("data/timings")  # not tracked: no two runs take the same time
PROVENANCE = Path("data/provenance")  # not tracked: the git commit, what DVC ran it with
GIB = 2**30
CHECKPOINT_DAYS = 30  # a killed training that nobody went on with for so long is given up
PARTIAL_DAYS = 1  # features that did not grow for so long are of a killed training


def main() -> None:
    """Train the run named on the command line; write its network, summary and curves."""
    parser = run_parser(__doc__)
    parser.add_argument("--profile", type=Path, help="folder for a trace of some steps")
    arguments = parser.parse_args()
    params = load_params()
    refuse_repository_without_commit()
    run = read_run(params, arguments.variant, arguments.condition)
    wants_xla = run.structure["backbone"] in params.train.xla
    setup = (
        params.machine.device,
        params.machine.memory_growth,
        params.train.precision,
        params.train.deterministic,
        run.seed,
        wants_xla,
    )
    precision, xla = device.prepare(*setup)
    from stages.learning.checkpoints import Checkpoints
    from stages.learning.features import frozen_features, one_after_the_other
    from stages.learning.recipe import Examples, Execution, Recipe, fit
    from stages.learning.remote_features import features_on
    from stages.learning.replicas import find_replicas
    from stages.networks.heads import AGE_YEARS
    from stages.networks.network import build_network, in_float32, save_network

    replicas = find_replicas(params.machine.strategy, params.machine.worker_patience)
    execution = Execution(
        xla,
        params.machine.steps_per_execution,
        params.machine.images_on_device,
        arguments.profile,
        replicas,
    )
    shares = params.train.subset.model_dump()
    train, val = (
        read_examples(FACES, run.lists, side, run.tasks, params.classes.age_upper_bounds).subset(
            share, run.seed
        )
        for side, share in shares.items()
    )
    classes = {task: len(params.classes.of(task)) for task in run.tasks}
    structure = run.network(classes, params.detect.size, params.classes.age_upper_bounds)
    manifest = PRETRAINED / "variants" / f"{arguments.variant}.json"
    weights = json.loads(manifest.read_text(encoding="utf-8"))
    crops = digest(FACES / "crops.npy")
    with execution.scope():
        model = build_network(**structure, weights=weights["file"] and PRETRAINED / weights["file"])
    execution = execution.suited_to(model)
    facts = {
        "seed": run.seed,
        "precision": precision,
        "xla": execution.xla,
        "deterministic": params.train.deterministic,
        "network": structure,
        "recipe": run.recipe,
        "subset": shares,
        "weights": weights,
        "data": {
            "crops.npy": crops,
            "index.csv": digest(FACES / "index.csv"),
            run.lists.name: digest(run.lists),
        },
    }
    identity = fingerprint(facts | environment())[:32]
    kept, features = shared_folder("checkpoints"), shared_folder("features")
    remove_older(kept, CHECKPOINT_DAYS)
    checkpoints = Checkpoints(kept / identity, identity)
    remove_older(features, PARTIAL_DAYS, f"*{PARTIAL_SUFFIX}")

    def examples(faces: LabelledFaces) -> Examples:
        years = {AGE_YEARS: faces.ages} if AGE_YEARS in model.output else {}
        return Examples(faces.rows, faces.labels | years)

    def compute(frozen: Any, batches: Any) -> Any:
        if params.cluster.engine == "ray":
            return features_on(params.cluster, frozen, batches, *setup)
        return one_after_the_other(frozen, batches)

    def learn(log: "Log") -> dict[str, Any]:
        return fit(
            model,
            train.crops,
            examples(train),
            examples(val),
            classes,
            Recipe(**run.recipe),
            run.seed,
            lambda frozen: frozen_features(
                frozen,
                train.crops,
                crops,
                features,
                params.machine.features_gib * GIB,
                compute,
            ),
            checkpoints,
            log,
            execution,
        )

    if replicas is not None and not replicas.chief:
        learn(lambda *_: None)
        print(f"train {run.name}: worker {replicas.worker} is done; the chief has the outputs")
        return
    folder, curves = Path("models") / run.name, Path("data/curves") / run.name
    shutil.rmtree(curves, ignore_errors=True)
    with (
        Live(str(curves), dvcyaml=None, save_dvc_exp=False, report=None) as live,
        tqdm(total=run.recipe["epochs"], desc=run.name, unit="epoch", disable=None) as bar,
    ):

        def log(epoch: int, figures: dict[str, float]) -> None:
            for figure, value in figures.items():
                live.log_metric(figure, value)
            live.next_step()
            score = figures["val/score"]
            told = f"train: {run.name}: epoch {epoch + 1}, val score {score:.4f}"
            tqdm.write(told, file=sys.stderr)
            bar.update()

        summary = learn(log)
    with atomic_write(folder / "model.keras") as partial:
        save_network(in_float32(model, **structure), partial)
    sides = [
        pd.DataFrame({"name": s.names, "used_for": u}) for s, u in ((train, "train"), (val, "val"))
    ]
    write_csv(folder / "images.csv", pd.concat(sides))
    write_json(folder / INPUT_SPEC_FILE, InputSpec.of(params, run.tasks).model_dump())
    timing = {key: summary.pop(key) for key in ("seconds", "images_per_second")}
    used = {"precision": precision, "xla": execution.xla}
    write_json(TRAINING / f"{run.name}.json", used | summary)
    write_json(TIMINGS / f"{run.name}.json", timing)
    network = {"model.keras": digest(folder / "model.keras")}
    if replicas is not None:
        facts["replicas"] = {"strategy": replicas.kind, "number": replicas.number}
    write_json(folder / "provenance.json", {"run": run.name, **facts, **environment(), **network})
    told = network | history() | {"basis": basis()}
    write_json(PROVENANCE / f"{run.name}.json", told)
    refuse_changes()  # while the checkpoint is there: hours of training are not lost by an edit
    checkpoints.clear()
    print(f"train: {run.name}: best epoch {summary['best_epoch']} of {summary['epochs']}")


if __name__ == "__main__":
    run_stage(main)
