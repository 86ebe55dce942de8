"""Heads: from pooled features to one softmax per task, plain or conditioned on gender.

- `plain`: per task Dense 128 ReLU, then softmax.
- `ge` (gender embedding): the gender head's 128 features are concatenated with the pooled
  features before the Dense 128 of age and race.
- `ge_gm` (with gating): the gender features first pass Dense 128 ReLU and Dense 1 sigmoid
  and are multiplied by that gate, one gate for age and one for race.
- `ge_am` (with attention): the gender features first pass Dense 128 ReLU and Dense 128
  softmax and are multiplied by it element by element, one for age and one for race.
"""

from collections.abc import Mapping
from typing import Any

from keras import layers

WIDTH = 128
HEADS = ("plain", "ge", "ge_gm", "ge_am")


def build_heads(features: Any, classes: Mapping[str, int], kind: str) -> dict[str, Any]:
    """Put heads on pooled features.

    Args:
        features: tensor of shape (batch, channels).
        classes: number of classes by task, in the order of the outputs.
        kind: one of `HEADS`; all but `plain` need the tasks age, gender and race.

    Returns:
        Class probabilities by task, float32 of shape (batch, classes), summing to 1.

    Raises:
        ValueError: an unknown kind, or one that the tasks do not fit.
    """
    if kind not in HEADS:
        raise ValueError(f"heads {kind!r} are not one of {HEADS}")
    if kind == "plain":
        return {task: _softmax(_dense(features, task), task, n) for task, n in classes.items()}
    if set(classes) != {"age", "gender", "race"}:
        raise ValueError(f"heads {kind!r} need the tasks age, gender and race")
    gender = _dense(features, "gender")
    hidden = {"gender": gender}
    for task in ("age", "race"):
        embedding = _conditioned(gender, task, kind)
        joint = layers.Concatenate(name=f"{task}_with_gender")([features, embedding])
        hidden[task] = _dense(joint, task)
    return {task: _softmax(hidden[task], task, n) for task, n in classes.items()}


def _conditioned(gender: Any, task: str, kind: str) -> Any:
    if kind == "ge":
        return gender
    if kind == "ge_gm":
        hidden = layers.Dense(WIDTH, "relu", name=f"{task}_gate_hidden")(gender)
        factor = layers.Dense(1, "sigmoid", name=f"{task}_gate")(hidden)
        return layers.Multiply(name=f"{task}_gated_gender")([gender, factor])
    hidden = layers.Dense(WIDTH, "relu", name=f"{task}_attention_hidden")(gender)
    factor = layers.Dense(WIDTH, "softmax", name=f"{task}_attention")(hidden)
    return layers.Multiply(name=f"{task}_attended_gender")([gender, factor])


def _dense(features: Any, task: str) -> Any:
    return layers.Dense(WIDTH, "relu", name=f"{task}_hidden")(features)


def _softmax(hidden: Any, task: str, classes: int) -> Any:
    # float32 also under mixed precision: float16 probabilities lose the rare classes.
    return layers.Dense(classes, "softmax", name=task, dtype="float32")(hidden)
