"""A search's grid as trainings: the name and the params of each combination.

The params of a grid vary together, or one by one: the variant as it is, then each value alone (an
ablation). Names follow from grid and seeds alone, so that the same combination is the same
experiment.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from stages.core.errors import UserError
from stages.core.params import Params, explain
from stages.core.paths import VARIANTS_FILE
from stages.core.variants import OF_THE_VARIANT, Search, Setting
from stages.runs.resolve import resolve

_SHORT = {"learning_rate": "lr", "batch_size": "b", "head_width": "w"}
UNCHANGED = "unchanged"  # in the name of the variant as it is
_SCIENTIFIC_BELOW = 0.1  # 1e-4 reads better than 0.0001, 0.5 better than 5e-1


@dataclass(frozen=True)
class Combination:
    """One experiment: its name, its run, the setting, all params it differs by."""

    name: str
    run: str
    setting: Setting
    overrides: dict[str, Any]

    @property
    def changes(self) -> list[str]:
        """The overrides as `dvc exp run -S` takes them."""
        texts = {
            key: f"[{','.join(value)}]" if isinstance(value, list) else str(value)
            for key, value in self.overrides.items()
        }
        # ++: a key may be left out of a variant's line.
        return [f"{k.replace('variants.', f'{VARIANTS_FILE}:++')}={v}" for k, v in texts.items()]

    def applied(self, params: Params) -> Params:
        """The params with the overrides; UserError where these do not fit to each other."""
        content = params.model_dump(by_alias=True)
        for key, value in self.overrides.items():
            *sections, last = key.split(".")
            section = content
            for name in sections:
                section = section[name]
            section[last] = value
        try:
            return Params.model_validate(content)
        except ValidationError as error:
            raise UserError(f"{self.name}: does not fit:\n{explain(error)}") from None


def combinations(params: Params, name: str) -> list[Combination]:
    """All combinations of a search's grid, each with all seeds; the last param varies fastest."""
    search = params.searches[name]
    settings: list[Setting]
    if search.vary == "one-by-one":
        settings = [{}] + [{key: value} for key, values in search.grid.items() for value in values]
    else:
        products = itertools.product(*search.grid.values())
        settings = [dict(zip(search.grid, product, strict=True)) for product in products]
    found = []
    for setting in settings:
        parts = [f"{_SHORT.get(key, f'{key}-')}{label(value)}" for key, value in setting.items()]
        full = "-".join([name, *(parts or [UNCHANGED])])
        overrides = _overrides(params, search, setting)
        found.append(Combination(full, search.variant, setting, overrides))
        for seed in range(params.seed + 1, params.seed + search.seeds):
            run = f"{search.variant}+seed-{seed}"
            changes = overrides | {"runs": [search.variant, run]}
            found.append(Combination(f"{full}-seed-{seed}", run, setting, changes))
    return found


def training_inputs(params: Params, run: str) -> tuple[object, ...]:
    """All params that a run's training follows from, from the raw images on."""
    data = (params.data, params.pretrained, params.detect, params.split)
    return (resolve(params, run), *data, params.seed, params.classes, params.train)


def label(value: float | str) -> str:
    """A value as it stands in names and plots, with all its digits: 32, 1e-4, 0.5."""
    if isinstance(value, float) and 0 < value < _SCIENTIFIC_BELOW:
        return np.format_float_scientific(value, trim="-", exp_digits=1)
    return str(value)


def _overrides(params: Params, search: Search, setting: Setting) -> dict[str, Any]:
    variant = search.variant
    common: dict[str, Any] = {
        "runs": [variant],  # the workflow has stages for these only
        "averages": [],  # their members are other runs
        "train.max_epochs": search.epochs,
        "train.subset.train": search.subset.train,
        "train.subset.val": search.subset.val,
        f"variants.{variant}.epochs": search.epochs,
    }
    if "batch_size" in search.grid:
        common["train.global_batch"] = 0  # it would stand for all of them
    chosen = params.variants[variant]
    for key, value in setting.items():
        if key in OF_THE_VARIANT:
            common[f"variants.{variant}.{key}"] = value
        elif key == "label_smoothing":
            paths = [f"recipes.{chosen.recipe}.{key}.{task}" for task in chosen.task_list]
            common |= dict.fromkeys(paths, value)
        else:
            common[f"recipes.{chosen.recipe}.{key}"] = value
    return common
