"""The outcomes of DVC experiments: which exist, which count, and which are still to be queued.

A finished experiment counts only if it follows from the params as they are now, and if DVC's
cache still has its figures.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from dvc.api import DVCFileSystem

from stages.core.errors import UserError
from stages.core.params import Params, parse_params
from stages.core.paths import PARAMS_FILE, VARIANTS_FILE
from stages.tuning.queue import FAILED, FINISHED, Queue
from stages.tuning.searches import Combination

OUTDATED, LOST = "outdated", "lost"  # states beside the queue's
FAULTS = {
    OUTDATED: "finished on this commit with other params; commit params.yaml, which begins anew, "
    "or remove them",
    LOST: "finished, but their figures are not in DVC's cache; remove them",
}


def judge(
    params: Params,
    queue: Queue,
    wanted: Sequence[Combination],
    metrics: str,
    inputs: Callable[[Params, str], object],
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """The states of all existing experiments, and the figures of those that count, by name.

    `metrics` is the file with an experiment's figures, with `{run}` in its path. `inputs` tells
    what an outcome follows from, of params and run. Finished experiments that `wanted` names
    are `OUTDATED` if these are not equal now, and `LOST` if their figures are gone.
    """
    finished, states = queue.finished(), queue.states()
    found = {}
    for each in wanted:
        if states.get(each.name) != FINISHED:
            continue
        rev = finished[each.name]
        files = DVCFileSystem(rev=rev)
        try:
            figures = json.loads(files.read_text(metrics.format(run=each.run)))
        except FileNotFoundError:
            states[each.name] = LOST
            continue
        texts = files.read_text(str(PARAMS_FILE)), files.read_bytes(str(VARIANTS_FILE))
        then = parse_params(*texts, f"{PARAMS_FILE} of experiment {rev[:7]}")
        if inputs(each.applied(params), each.run) == inputs(then, each.run):
            found[each.name] = figures
        else:
            states[each.name] = OUTDATED
    return states, found


def missing(wanted: Sequence[Combination], states: dict[str, str]) -> list[Combination]:
    """Those that are neither finished, running nor queued; UserError for outdated or lost ones."""
    for state, fault in FAULTS.items():
        if names := [each.name for each in wanted if states.get(each.name) == state]:
            raise UserError(f"{fault}: dvc exp remove {' '.join(names)}")
    return [each for each in wanted if states.get(each.name, FAILED) == FAILED]
