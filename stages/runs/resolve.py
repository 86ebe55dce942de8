"""What each run is, resolved from params: `data/plan/<run>.json`.

A training reads its plan and not params.yaml, so that a changed recipe reruns its own runs alone.
"""

import argparse
from typing import Literal

from pydantic import Field

from stages.core.errors import UserError
from stages.core.params import Params
from stages.core.paths import RunPaths
from stages.core.run_names import RunName
from stages.core.sections import Section, Subset
from stages.core.variants import NetworkSpec, Training, Variant, fault_of_rate, rate_and_batch
from stages.networks.input_spec import InputSpec


class Plan(Section):
    """One run: its network, how it is trained, and how it is fed."""

    run: str
    variant: str
    network: NetworkSpec
    training: Training
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"]
    threads: int  # of one operation; 0: one per core
    deterministic: bool
    xla: bool  # whether XLA compiles its steps where the machine allows it
    subset: Subset  # the share of the images of each split that is used
    input_spec: InputSpec
    # Of an average: the runs that it averages, and whether each also sees the mirrored image.
    members: list[str] = Field(default_factory=list)
    flip: bool = False

    @property
    def tasks(self) -> list[str]:
        """The tasks, in the order age, gender, race."""
        return list(self.network.classes)


def resolve(params: Params, run: str, epochs: int | None = None) -> Plan:
    """The plan of a run of any variant of params.yaml, listed in `runs` or not.

    The plan of an average is that of its first member, with the members. `epochs` stands in place
    of those of the variant and of `train.max_epochs`.
    """
    if run in params.averages:
        average = params.known_averages[run]
        first = resolve(params, average.members[0])
        return first.model_copy(update={"run": run, "variant": run} | average.model_dump())
    name = RunName.parse(run)
    variant = params.variants[name.variant]
    seed = params.seed if name.seed is None else name.seed
    return Plan(
        run=run,
        variant=name.variant,
        network=_network(params, variant, name.native),
        training=_training(params, variant, seed, epochs),
        precision=params.train.precision,
        threads=params.train.threads,
        deterministic=params.train.deterministic,
        xla=variant.backbone in params.train.xla,
        subset=params.train.subset,
        input_spec=InputSpec.of(params, variant.task_list),
    )


def _network(params: Params, variant: Variant, native: bool) -> NetworkSpec:
    both = params.recipes[variant.recipe].model_dump() | variant.model_dump()
    network = {key: value for key, value in both.items() if key in NetworkSpec.model_fields}
    network["classes"] = {task: len(params.classes.of(task)) for task in variant.task_list}
    network["size"] = params.detect.size
    network["age_upper_bounds"] = params.classes.age_upper_bounds
    if native:
        network["preprocessing"] = "native"
    if "age" not in variant.task_list:
        network["age_head"] = "groups"
    return NetworkSpec(**network)


def _training(params: Params, variant: Variant, seed: int, epochs: int | None) -> Training:
    recipe = params.recipes[variant.recipe].model_dump()
    learning_rate, batch_size = rate_and_batch(params.train, variant)
    if fault := fault_of_rate(params.train, variant):
        raise UserError(fault)
    epochs = epochs or min(variant.epochs, params.train.max_epochs)
    training = {key: value for key, value in recipe.items() if key in Training.model_fields}
    training |= {"seed": seed, "learning_rate": learning_rate, "batch_size": batch_size}
    training |= {"epochs": epochs, "task_weights": params.train.task_weights}
    # Rounded first: 0.29 of 100 is 28.999999999999996.
    training["progressive_epochs"] = int(round(epochs * recipe["progressive_fraction"], 6))
    training["augmentation"] = params.augmentations.get(recipe["augmentation"])
    return Training(**training)


def read_plan(run: str) -> Plan:
    """The plan of a run of the workspace; UserError if it is missing or does not fit."""
    path = RunPaths(run).plan
    if not path.is_file():
        raise UserError(f"{path}: missing; {run} must be in runs of params.yaml; `dvc repro plan`")
    return Plan.parse(path.read_bytes(), path, "run `dvc repro -f plan`")


def pretrained_parts(plan: Plan) -> list[tuple[str, str]]:
    """Backbone and weights that a run, or each member of an average, starts from, each once."""
    networks = [each.network for each in map(read_plan, plan.members)] or [plan.network]
    parts = [(n.backbone, n.weights) for n in networks if n.weights != "none"]
    return list(dict.fromkeys(parts))


def run_parser(description: str | None) -> argparse.ArgumentParser:
    """The parser of a stage that works on one run, its argument `run`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("run", help="a name from runs in params.yaml")
    return parser
