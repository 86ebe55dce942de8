"""Heads: from pooled features to one softmax per task, plain or conditioned on gender.

- `plain`: per task Dense ReLU, then softmax.
- `ge` (gender embedding): the gender head's hidden features are concatenated with the pooled
  features before the Dense of age and race.
- `ge_gm` (with gating): the gender features first pass Dense ReLU and Dense 1 sigmoid and are
  multiplied by that gate, one gate for age and one for race.
- `ge_am` (with attention): the gender features first pass Dense ReLU and Dense softmax and are
  multiplied by it element by element, one for age and one for race.

Every Dense but the softmax and the gate has the same width: 128 in the published variants.

The age head ends in its groups, or in a softmax over single years whose sums are the groups:
a label distribution over years can then be learnt (DLDL, Gao et al. 2017,
https://arxiv.org/abs/1611.01731).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import layers

from stages.core.variants import NetworkSpec
from stages.networks.prediction import AGE_YEARS

HEADS = ("plain", "ge", "ge_gm", "ge_am")
AGE_HEADS = ("groups", "years")


def build_heads(features: Any, spec: NetworkSpec) -> dict[str, Any]:
    """Put heads on pooled features.

    Args:
        features: tensor of shape (batch, channels).
        spec: of which are read `classes`; `heads`, one of `HEADS`, where all but `plain` need
            the tasks age, gender and race; `head_width`; `dropout`, the share of a head's hidden
            features that is dropped before its softmax in training, 0 (no such layer) to below
            1, never of the gender embedding; `age_head`, one of `AGE_HEADS`; and for `years`
            `age_upper_bounds`, rising: the years are 1 to the last bound.

    Returns:
        Class probabilities by task, float32 of shape (batch, classes), summing to 1. With
        `years`, `AGE_YEARS` comes last: float32 of shape (batch, years), column 0 is year 1.

    Raises:
        ValueError: an unknown kind or age head, or one that tasks or bounds do not fit.
    """
    classes, bounds = spec.classes, spec.age_upper_bounds
    if spec.heads not in HEADS:
        raise ValueError(f"heads {spec.heads!r} are not one of {HEADS}")
    if spec.age_head not in AGE_HEADS:
        raise ValueError(f"age_head {spec.age_head!r} is not one of {AGE_HEADS}")
    if spec.heads != "plain" and set(classes) != {"age", "gender", "race"}:
        raise ValueError(f"heads {spec.heads!r} need the tasks age, gender and race")
    if spec.age_head == "years" and classes.get("age") != len(bounds):
        raise ValueError("age_head 'years' needs the task age and an upper bound for each group")
    hidden = _hidden(features, classes, spec.heads, spec.head_width)
    if spec.dropout:
        hidden = {
            t: layers.Dropout(spec.dropout, name=f"{t}_dropout")(x) for t, x in hidden.items()
        }
    if spec.age_head == "groups":
        return {task: _softmax(hidden[task], task, n) for task, n in classes.items()}
    years = _softmax(hidden["age"], AGE_YEARS, bounds[-1])
    outputs = {
        task: _grouped(years, bounds) if task == "age" else _softmax(hidden[task], task, n)
        for task, n in classes.items()
    }
    return outputs | {AGE_YEARS: years}


def _hidden(features: Any, tasks: Mapping[str, int], kind: str, width: int) -> dict[str, Any]:
    """The features that each task's softmax reads, by task: (batch, width)."""
    if kind == "plain":
        return {task: _dense(features, task, width) for task in tasks}
    gender = _dense(features, "gender", width)
    hidden = {"gender": gender}
    for task in ("age", "race"):
        embedding = _conditioned(gender, task, kind, width)
        joint = layers.Concatenate(name=f"{task}_with_gender")([features, embedding])
        hidden[task] = _dense(joint, task, width)
    return hidden


def _conditioned(gender: Any, task: str, kind: str, width: int) -> Any:
    if kind == "ge":
        return gender
    if kind == "ge_gm":
        hidden = layers.Dense(width, "relu", name=f"{task}_gate_hidden")(gender)
        factor = layers.Dense(1, "sigmoid", name=f"{task}_gate")(hidden)
        return layers.Multiply(name=f"{task}_gated_gender")([gender, factor])
    hidden = layers.Dense(width, "relu", name=f"{task}_attention_hidden")(gender)
    factor = layers.Dense(width, "softmax", name=f"{task}_attention")(hidden)
    return layers.Multiply(name=f"{task}_attended_gender")([gender, factor])


def _dense(features: Any, task: str, width: int) -> Any:
    return layers.Dense(width, "relu", name=f"{task}_hidden")(features)


def _softmax(hidden: Any, name: str, classes: int) -> Any:
    # float32 also under mixed precision: float16 probabilities lose the rare classes.
    return layers.Dense(classes, "softmax", name=name, dtype="float32")(hidden)


def _grouped(years: Any, bounds: Sequence[int]) -> Any:
    """Sum the years of each group, by a Dense layer that never learns: (batch, groups)."""
    layer = layers.Dense(len(bounds), use_bias=False, trainable=False, name="age", dtype="float32")
    groups = layer(years)
    layer.set_weights([_membership(bounds)])
    return groups


def _membership(bounds: Sequence[int]) -> npt.NDArray[np.float32]:
    """1 where a year (row 0: year 1) is of a group (column), else 0."""
    years, upper = np.arange(1, bounds[-1] + 1)[:, None], np.array(bounds)
    lower = np.concatenate([[0], upper[:-1]])
    return ((lower < years) & (years <= upper)).astype(np.float32)
