"""What each variant of the suite is, resolved from params: `data/plan/<variant>.json`.

A training reads its recipe from there and not from `recipes`, so that a change of one recipe
reruns the variants that follow it and no other. The file has `structure` (what the network
is), `recipe` and `augmentation` (null: none).

A run is a variant as it stands, or under a condition: `native` (its other preprocessing),
`seed-<n>`, `published-split` (trained and tested on the lists of the published protocol) or
`fold-<i>` (tested on that fold). Its outputs are named `<variant>` and `<variant>+<condition>`;
the images that it uses stand in `data/lists/<condition>.csv`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.errors import UserError
from stages.core.params import NO_AUGMENTATION, Params

PLANS = Path("data/plan")
LISTS = Path("data/lists")
NATIVE, PUBLISHED_SPLIT = "native", "published-split"
_HONEST = "honest"  # the lists of a variant as it stands

# How the learning rate grows with the batch. linear: Goyal et al. 2017,
# https://arxiv.org/abs/1706.02677; sqrt: for Adam, Malladi et al. 2022,
# https://arxiv.org/abs/2205.10287.
LR_SCALING_POWERS = {"keep": 0.0, "linear": 1.0, "sqrt": 0.5}

_IN_THE_NETWORK = {"weights": "pretraining", "head_width": "width"}  # as build_network has it
_OF_THE_HEADS = ("head_width", "dropout", "age_head")  # recipe params that shape the network


@dataclass(frozen=True)
class Run:
    """One training: the name of its outputs, its images, what the network is, how it learns."""

    name: str
    lists: Path
    structure: dict[str, Any]
    recipe: dict[str, Any]
    seed: int

    @property
    def tasks(self) -> list[str]:
        """The tasks, in the order age, gender, race."""
        return str(self.structure["tasks"]).split()

    def network(
        self, classes: Mapping[str, int], size: int, age_upper_bounds: Sequence[int]
    ) -> dict[str, Any]:
        """What the network is, in the words of `build_network`.

        Args:
            classes: number of classes by task.
            size: side of the images in pixels.
            age_upper_bounds: of the age groups, in years.
        """
        parts = {key: value for key, value in self.structure.items() if key != "tasks"}
        return {_IN_THE_NETWORK.get(key, key): value for key, value in parts.items()} | {
            "classes": dict(classes),
            "size": size,
            "age_upper_bounds": list(age_upper_bounds),
        }


def parse_arguments(description: str | None) -> argparse.Namespace:
    """The run that a node is called for: `variant`, and `condition` (None: as it stands)."""
    return run_parser(description).parse_args()


def run_parser(description: str | None) -> argparse.ArgumentParser:
    """The parser of `parse_arguments`, for a node that takes more."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("variant", help="a name from suite in params.yaml")
    parser.add_argument("--condition", help="one of its conditions in repeats of params.yaml")
    return parser


def run_name(variant: str, condition: str | None) -> str:
    """The name of a run's outputs."""
    return variant if condition is None else f"{variant}+{condition}"


def run_names(params: Params) -> list[str]:
    """Of all runs: each variant of the suite as it stands, then under each of its conditions."""
    return [run_name(v, c) for v in params.suite for c in (None, *params.conditions(v))]


def stage_name(run: str, node: str) -> str:
    """The stage of dvc.yaml in which a node (`train` or `evaluate`) works on a run."""
    variant, _, condition = run.partition("+")
    return f"repeat@{variant}-{condition}" if condition else f"{node}@{variant}"


def lists_file(condition: str | None) -> Path:
    """The file of the images that a run under a condition uses."""
    return LISTS / f"{condition or _HONEST}.csv"


def seed_of(condition: str | None) -> int | None:
    """The number in `seed-<n>`; None for other conditions."""
    return _number(condition, "seed-")


def fold_of(condition: str | None) -> int | None:
    """The number in `fold-<i>`; None for other conditions."""
    return _number(condition, "fold-")


def _number(condition: str | None, prefix: str) -> int | None:
    if condition is None or not condition.startswith(prefix):
        return None
    return int(condition.removeprefix(prefix))


def resolve(params: Params, variant: str) -> dict[str, Any]:
    """The plan of a variant, as it is written to its file."""
    chosen = params.variants[variant]
    recipe = params.recipes[chosen.recipe].model_dump()
    augmentation = recipe.pop("augmentation")
    return {
        "structure": chosen.model_dump(exclude={"recipe"})
        | {key: recipe.pop(key) for key in _OF_THE_HEADS},
        "recipe": recipe,
        "augmentation": None
        if augmentation == NO_AUGMENTATION
        else params.augmentations[augmentation].model_dump(),
    }


def read_plan(variant: str) -> dict[str, Any]:
    """The plan of a variant.

    Raises:
        UserError: it is missing.
    """
    path = PLANS / f"{variant}.json"
    if not path.is_file():
        raise UserError(f"{path}: missing; run `dvc repro plan`")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def read_run(params: Params, variant: str, condition: str | None) -> Run:
    """What a training needs, from a variant's plan and its own row in `training`.

    Raises:
        UserError: the variant is not in the suite, the condition not among its own, or the plan
            is missing.
    """
    if variant not in params.suite:
        raise UserError(f"variant {variant!r} is not in suite of params.yaml")
    if condition is not None and condition not in params.conditions(variant):
        raise UserError(f"{variant} under {condition!r} is not in repeats of params.yaml")
    return _run(params, variant, condition, read_plan(variant))


def plan_run(
    params: Params, variant: str, condition: str | None = None, epochs: int | None = None
) -> Run:
    """The same from params alone, for any known variant, whether it is in the suite or not.

    `epochs`, if given, are those of the training, whatever `training` and `train` say.
    """
    return _run(params, variant, condition, resolve(params, variant), epochs)


def _run(
    params: Params,
    variant: str,
    condition: str | None,
    plan: dict[str, Any],
    epochs: int | None = None,
) -> Run:
    structure, seed = plan["structure"], seed_of(condition)
    if condition == NATIVE:
        structure["preprocessing"] = "native"
    training = params.training[variant].model_dump()
    rule = params.train.lr_scaling
    if (whole := params.train.global_batch) and whole != training["batch_size"]:
        training["learning_rate"] *= (whole / training["batch_size"]) ** LR_SCALING_POWERS[rule]
        training["batch_size"] = whole
    training["epochs"] = epochs or min(training["epochs"], params.train.max_epochs)
    recipe = plan["recipe"] | training | {"task_weights": params.train.task_weights.model_dump()}
    # Rounded first: 0.29 of 100 is 28.999999999999996.
    recipe["progressive_epochs"] = int(
        round(training["epochs"] * recipe.pop("progressive_fraction"), 6)
    )
    return Run(
        run_name(variant, condition),
        lists_file(condition),
        structure,
        recipe | {"augmentation": plan["augmentation"]},
        params.seed if seed is None else seed,
    )
