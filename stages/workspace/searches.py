"""A search's grid as trainings: the name and the params of each combination.

The names follow from the grid alone (`mtl-vgg16-block5-lr1e-4-b32`), so that whoever asks
again for a combination means the same experiment.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.workspace.params import Params, Search, Setting, Training, section_of
from stages.workspace.plans import plan_run

_SHORT = {"learning_rate": "lr", "batch_size": "b", "head_width": "w"}
_SCIENTIFIC_BELOW = 0.1  # 1e-4 reads better than 0.0001, 0.5 better than 5e-1


@dataclass(frozen=True)
class Combination:
    """One training of a search: the experiment's name, the setting, all params it differs by."""

    name: str
    setting: Setting
    overrides: dict[str, Any]

    @property
    def changes(self) -> list[str]:
        """The overrides as `dvc exp run -S` takes them."""
        return [f"{key}={_written(value)}" for key, value in self.overrides.items()]

    def applied(self, params: Params) -> Params:
        """The params with the overrides."""
        content = params.model_dump(by_alias=True)
        for key, value in self.overrides.items():
            *sections, last = key.split(".")
            section = content
            for name in sections:
                section = section[name]
            section[last] = value
        return Params.model_validate(content)


def combinations(params: Params, name: str) -> list[Combination]:
    """All combinations of a search's grid; the last param varies fastest."""
    search = params.searches[name]
    settings = (
        dict(zip(search.grid, values, strict=True))
        for values in itertools.product(*search.grid.values())
    )
    return [
        Combination(
            "-".join([name, *(f"{_SHORT.get(k, k)}{label(v)}" for k, v in setting.items())]),
            setting,
            _overrides(params, search, setting),
        )
        for setting in settings
    ]


def basis(params: Params, variant: str) -> tuple[object, ...]:
    """All params that a variant's training follows from, from the raw images on."""
    sections = (params.data, params.detect, params.split, params.classes, params.train)
    return (plan_run(params, variant), *sections)


def label(value: float | str) -> str:
    """A value as it stands in names and plots, with all its digits: 32, 1e-4, 0.5."""
    if isinstance(value, float) and 0 < value < _SCIENTIFIC_BELOW:
        return np.format_float_scientific(value, trim="-", exp_digits=1)
    return str(value)


def _overrides(params: Params, search: Search, setting: Setting) -> dict[str, Any]:
    variant, recipe = search.variant, params.variants[search.variant].recipe
    common = {
        "suite": [variant],  # the workflow has stages for the suite's variants only
        "train.max_epochs": search.epochs,
        "train.subset.train": search.subset.train,
        "train.subset.val": search.subset.val,
        f"training.{variant}.epochs": search.epochs,
    }
    varied = {
        f"training.{variant}.{key}"
        if section_of(key) is Training
        else f"recipes.{recipe}.{key}": value
        for key, value in setting.items()
    }
    return common | varied


def _written(value: object) -> str:
    return f"[{','.join(value)}]" if isinstance(value, list) else str(value)
