"""Stage train: one run, from crops and lists to models/<run>/.

Everything that decides the network stands in data/plan/<run>.json; of params.yaml only the
sections `machine` and `cluster` are read here, which decide where and how fast it is trained.
"""

import json
import shutil
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from dvclive import Live
from tqdm import tqdm

from stages.core.files import (
    PARTIAL_SUFFIX,
    atomic_write,
    check_digest,
    digest,
    write_csv,
    write_json,
)
from stages.core.params import load_params
from stages.core.paths import CROPS, FACES, INDEX, PRETRAINED, RunPaths
from stages.core.stage import refuse_changes, run_stage
from stages.dataset.examples import LabelledFaces, places_of_copies, read_examples
from stages.learning.provenance import (
    environment,
    fingerprint,
    history,
    refuse_repository_without_commit,
)
from stages.networks import device
from stages.runs.caches import remove_older, shared_folder
from stages.runs.resolve import Plan, read_plan, run_parser

if TYPE_CHECKING:  # TensorFlow is imported after `device.prepare`
    from stages.learning.checkpoints import Checkpoints
    from stages.learning.fit import Execution, Features, Log

GIB = 2**30
MOMENT_IMAGES = 512  # from which the moments of folded batch normalisation are measured
CHECKPOINT_DAYS = 30  # after which the checkpoint of a killed training is removed
PARTIAL_DAYS = 1  # after which features that a killed training left half-written are removed

Faces = dict[str, LabelledFaces]  # by split: train and val


def main() -> None:
    """Train the run named on the command line; write its network, summary and curves."""
    plan = read_plan(run_parser(__doc__).parse_args().run)
    params = load_params()
    refuse_repository_without_commit()
    machine = params.machine
    growth, seed = machine.memory_growth, plan.training.seed
    setup = (machine.device, growth, plan.precision, plan.deterministic, seed, plan.xla)
    precision, xla = device.prepare(*setup, plan.threads)
    threads = plan.threads or device.usable_cores()
    from stages.learning.checkpoints import Checkpoints
    from stages.learning.features import features_on, frozen_features, one_after_the_other
    from stages.learning.fit import Execution
    from stages.learning.replicas import find_replicas

    replicas = find_replicas(machine.strategy, machine.worker_patience)
    execution = Execution(xla, machine.steps_per_execution, machine.images_on_device, replicas)
    faces, inputs = load(plan)
    model = build(plan, inputs["weights"], faces["train"], execution)
    execution = execution.suited_to(model)
    used = {"precision": precision, "xla": execution.xla, "threads": threads}
    facts = plan.model_dump(exclude={"run", "variant", "input_spec"}) | inputs | used
    identity = fingerprint(facts | environment())[:32]
    kept, stored = shared_folder("checkpoints"), shared_folder("features")
    remove_older(kept, CHECKPOINT_DAYS)
    remove_older(stored, PARTIAL_DAYS, f"*{PARTIAL_SUFFIX}")
    checkpoints = Checkpoints(kept / identity, identity)
    many, alone = params.cluster.engine == "ray", one_after_the_other
    features = partial(
        frozen_features,
        images=faces["train"].crops,
        digest=fingerprint({"crops": inputs["data"][CROPS.name], "threads": threads}),
        folder=stored,
        limit=machine.features_gib * GIB,
        compute=partial(features_on, params.cluster, (*setup, threads)) if many else alone,
    )
    summary = fit(plan, model, faces, features, checkpoints, execution)
    if replicas is not None:
        facts["replicas"] = {"strategy": replicas.kind, "number": replicas.number}
        if not replicas.chief:
            print(f"train {plan.run}: worker {replicas.worker} is done; the chief has the outputs")
            return
    save(plan, model, faces, facts, used | summary)
    refuse_changes()  # while the checkpoint is there: hours of training are not lost by an edit
    checkpoints.clear()
    print(f"train: {plan.run}: best epoch {summary['best_epoch']} of {summary['epochs']}")


def load(plan: Plan) -> tuple[Faces, dict[str, Any]]:
    """The examples of the train and val splits, and the digests of all that is read."""
    paths, bounds = RunPaths(plan.run), plan.network.age_upper_bounds
    faces = {
        split: read_examples(FACES, paths.lists, split, plan.tasks, bounds).subset(
            share, plan.training.seed
        )
        for split, share in plan.subset.model_dump().items()
    }
    files = (CROPS, INDEX, paths.lists)
    return faces, {
        "weights": json.loads(paths.weights.read_text(encoding="utf-8")),
        "data": {file.name: digest(file) for file in files},
    }


def build(plan: Plan, weights: dict[str, Any], train: LabelledFaces, execution: "Execution") -> Any:
    """The network with its pretrained weights."""
    from stages.learning.normalisation import unfold
    from stages.networks.backbones import FOLDED
    from stages.networks.network import build_network

    file = weights["file"] and PRETRAINED / weights["file"]
    if file is not None:
        check_digest(file, weights["sha256"])
    with execution.scope():
        model = build_network(plan.network, file)
        if plan.network.weights in FOLDED:
            # Evenly spaced, because the rows are sorted by name, which begins with the age.
            number = min(MOMENT_IMAGES, len(train.rows))
            places = np.linspace(0, len(train.rows) - 1, number).round().astype(int)
            unfold(model, train.crops[np.sort(train.rows[places])])
    return model


def fit(
    plan: Plan,
    model: Any,
    faces: Faces,
    features: "Features",
    checkpoints: "Checkpoints",
    execution: "Execution",
) -> dict[str, Any]:
    """Train the network in place and log its curves; returns the summary of `learning.fit`."""
    from stages.learning.fit import Data, Examples
    from stages.learning.fit import fit as fit_network
    from stages.learning.soft_labels import soft_labels
    from stages.networks.heads import AGE_YEARS

    def examples(split: LabelledFaces) -> Examples:
        years = {AGE_YEARS: split.ages} if AGE_YEARS in model.output else {}
        return Examples(split.rows, split.labels | years)

    train = examples(faces["train"])
    if plan.training.conflicting_labels == "mean":
        copies = places_of_copies(RunPaths(plan.run).lists, faces["train"].names)
        years = model.output[AGE_YEARS].shape[-1] if AGE_YEARS in model.output else 0
        sigma = plan.training.age_sigma
        soft = soft_labels(train.labels, plan.network.classes, copies, years, sigma)
        train = replace(train, labels=soft)

    def learn(log: "Log") -> dict[str, Any]:
        data = Data(faces["train"].crops, train, examples(faces["val"]))
        return fit_network(model, data, plan.training, features, checkpoints, log, execution)

    if execution.replicas is not None and not execution.replicas.chief:
        return learn(lambda *_: None)
    curves = RunPaths(plan.run).curves
    shutil.rmtree(curves, ignore_errors=True)
    with (
        Live(str(curves), dvcyaml=None, save_dvc_exp=False, report=None) as live,
        tqdm(total=plan.training.epochs, desc=plan.run, unit="epoch", disable=None) as bar,
    ):

        def log(epoch: int, figures: dict[str, float]) -> None:
            for figure, value in figures.items():
                live.log_metric(figure, value)
            live.next_step()
            score = figures["val/score"]
            message = f"train: {plan.run}: epoch {epoch + 1}, val score {score:.4f}"
            tqdm.write(message, file=sys.stderr)
            bar.update()

        return learn(log)


def save(
    plan: Plan, model: Any, faces: Faces, facts: dict[str, Any], summary: dict[str, Any]
) -> None:
    """Write the network, how it is fed, what it was trained with, and where it comes from."""
    from stages.networks.network import in_float32, save_network

    paths = RunPaths(plan.run)
    with atomic_write(paths.network) as partial:
        save_network(in_float32(model, plan.network), partial)
    used = [pd.DataFrame({"name": f.names, "used_for": split}) for split, f in faces.items()]
    write_csv(paths.images, pd.concat(used))
    write_json(paths.input_spec, plan.input_spec.model_dump())
    timing = {key: summary[key] for key in ("seconds", "images_per_second")}
    network = {paths.network.name: digest(paths.network)}
    figures = {k: v for k, v in summary.items() if k not in timing}
    write_json(paths.training, figures | {"network": network[paths.network.name]})
    write_json(paths.timing, timing)
    write_json(paths.provenance, {"run": plan.run, **facts, **environment(), **network})
    write_json(paths.history, network | history())


if __name__ == "__main__":
    run_stage(main)
