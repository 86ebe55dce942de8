"""The outcomes of DVC experiments: which exist, which count, and which are still to be queued.

A finished experiment counts only if it follows from the params as they are now, and if DVC's
cache still has its figures.
"""

from collections.abc import Callable, Sequence
from typing import Any

from stages.core.errors import UserError
from stages.core.params import Params
from stages.tuning.queue import FAILED, FINISHED, Queue, read_experiment
from stages.tuning.searches import Combination

OUTDATED, LOST = "outdated", "lost"  # states beside the queue's


def judge(
    params: Params,
    queue: Queue,
    wanted: Sequence[Combination],
    metrics: str,
    inputs: Callable[[Params, str], object],
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """The states of experiments, and the figures of those that are finished, by name.

    Args:
        params: as they are now.
        queue: of the repository.
        wanted: the experiments to judge.
        metrics: the file with the figures of an experiment, with `{variant}` in its path.
        inputs: what an outcome follows from, of params and variant; equal inputs mean the same
            experiment.

    Returns:
        The states of all existing experiments, with `OUTDATED` for finished ones of other params
        and `LOST` for those whose figures are gone; the figures of the other finished ones.
    """
    finished, states = queue.finished(), queue.states()
    found = {}
    for each in wanted:
        if states.get(each.name) != FINISHED:
            continue
        then = read_experiment(finished[each.name], metrics.format(variant=each.variant))
        if then is None:
            states[each.name] = LOST
        elif inputs(each.applied(params), each.variant) != inputs(then[0], each.variant):
            states[each.name] = OUTDATED
        else:
            found[each.name] = then[1]
    return states, found


def missing(wanted: Sequence[Combination], states: dict[str, str]) -> list[Combination]:
    """Those that are neither finished, running nor queued.

    Raises:
        UserError: experiments of these names are finished, but with other params or without
            their figures.
    """
    for state, fault in {
        OUTDATED: "finished on this commit with other params; commit params.yaml, which begins "
        "anew, or remove them",
        LOST: "finished, but their figures are not in DVC's cache; remove them",
    }.items():
        if names := [each.name for each in wanted if states.get(each.name) == state]:
            raise UserError(f"{fault}: dvc exp remove {' '.join(names)}")
    return [each for each in wanted if states.get(each.name, FAILED) == FAILED]
