"""The published variants as DVC experiments, one each: `utkface-mtl suite`, `make suite`.

    queue    queue all that are neither finished, running nor queued (what make suite does)
    table    the state and the test scores of each, at any time; writes data/suite.csv
    compare  one run of the workflow with all that are finished, up to comparison and report

`utkface-mtl tune run` runs the queue. A training that was stopped is a failed experiment; queued
again, it goes on from its checkpoint. `compare` trains nothing anew: networks come from DVC's run
cache. Like any `dvc exp run -S` it leaves its runs, and no averages, in params.yaml.
"""

import argparse
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from stages.comparison.table import FIGURES, NAMES, PUBLISHED
from stages.core.errors import UserError
from stages.core.files import write_csv
from stages.core.params import Params, load_params
from stages.core.sections import TASKS, suggestion
from stages.tuning.outcomes import judge, missing
from stages.tuning.queue import FINISHED, Queue, open_queue
from stages.tuning.searches import Combination, training_inputs

METRICS_OF_EXPERIMENT = "data/evaluation/{run}/metrics.json"
TABLE = Path("data/suite.csv")
NOT_QUEUED = "not queued"


def main() -> None:
    """Queue, show or compare the published variants."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("queue", "table", "compare"))
    parser.add_argument("variants", nargs="*", help="names; default: all published ones")
    arguments = parser.parse_args()
    params = load_params()
    wanted = experiments(params, arguments.variants or list(pd.read_csv(PUBLISHED)["variant"]))
    logging.getLogger().setLevel(logging.ERROR)  # of DVC's queue: what is expected here
    with open_queue() as queue:
        if arguments.command == "queue":
            enqueue(params, queue, wanted)
            return
        states, found = judge(params, queue, wanted, METRICS_OF_EXPERIMENT, evaluation_inputs)
    show(wanted, states, found)
    if arguments.command == "compare":
        compare(params, [each.run for each in wanted if each.name in found])


def experiments(params: Params, variants: list[str]) -> list[Combination]:
    """An experiment for each variant; a `UserError` if it is not in params.yaml."""
    for name in variants:
        if name not in params.variants:
            near = suggestion(name, params.variants)
            raise UserError(f"unknown variant {name!r}{near}; see `utkface-mtl variants`")
    changes = {name: {"runs": runs_of(params, name), "averages": []} for name in variants}
    return [Combination(f"suite-{name}", name, {}, changes[name]) for name in variants]


def runs_of(params: Params, variant: str) -> list[str]:
    """The runs of a variant in params.yaml, and the variant as it stands in any case."""
    listed = [run.text for run in params.run_names if run.variant == variant]
    return [variant, *(run for run in listed if run != variant)]


def evaluation_inputs(params: Params, variant: str) -> object:
    """All params that a variant's scores follow from."""
    return training_inputs(params, variant), params.evaluate, runs_of(params, variant)


def enqueue(params: Params, queue: Queue, wanted: list[Combination]) -> None:
    """Queue what is missing, each variant with its listed runs."""
    if queue.uncommitted():
        print(
            "warning: uncommitted changes; the experiments include them, but belong to the last "
            "commit and no longer count after the next one",
            file=sys.stderr,
        )
    queue.forget_dead()
    states, _ = judge(params, queue, wanted, METRICS_OF_EXPERIMENT, evaluation_inputs)
    todo = missing(wanted, states)
    for each in todo:
        targets = [f"evaluate@{run}" for run in runs_of(params, each.run)]
        queue.add(each.name, targets, each.changes)
    counts = _counted([states.get(each.name, NOT_QUEUED) for each in wanted if each not in todo])
    print(f"suite: {len(todo)} of {len(wanted)} variants queued{counts and '; ' + counts}")


def show(
    wanted: list[Combination], states: dict[str, str], found: dict[str, dict[str, Any]]
) -> None:
    """Write the table of all variants; print their accuracies beside the published ones."""
    published = pd.read_csv(PUBLISHED, index_col="variant")[NAMES].add_prefix("published_")
    rows = []
    for each in wanted:
        scores = found.get(each.name, {})
        figures = {f"{t}_{f}": scores.get(t, {}).get(f) for t in TASKS for f in FIGURES}
        state, images = states.get(each.name, NOT_QUEUED), scores.get("images")
        rows.append({"variant": each.run, "state": state, "images": images, **figures})
    table = pd.DataFrame(rows).astype({"images": "Int64"}).join(published, on="variant")
    pairs = [column for name in NAMES for column in (name, f"published_{name}")]
    write_csv(TABLE, table[["variant", "state", "images", *pairs]])
    accuracies = [f"{kind}{task}_accuracy" for task in TASKS for kind in ("published_", "")]
    text = table[["variant", "state", *accuracies]].astype(object)
    text = text.where(text.notna(), "")
    print(tabulate(text, headers="keys", floatfmt=".3f", showindex=False))
    print(f"suite: {_counted(list(table['state']))}; {TABLE}")


def compare(params: Params, variants: list[str]) -> None:
    """Run the workflow with the runs of these variants; a `UserError` if there are none."""
    if not variants:
        raise UserError("no variant of the suite is finished; `make suite` queues them")
    runs = ",".join(run for variant in variants for run in runs_of(params, variant))
    folder = Path(sys.executable).parent  # of the `python` that the stages start
    command = [sys.executable, "-m", "dvc", "exp", "run", f"--set-param=runs=[{runs}]"]
    done = subprocess.run(
        [*command, "--set-param=averages=[]"],  # their members are other runs
        env=os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        check=False,
    )
    if done.returncode:
        raise UserError("comparison failed; see DVC's output above")
    print(f"suite: {len(variants)} variants compared; data/comparison/, report/index.html")


def _counted(states: list[str]) -> str:
    known = sorted(set(states), key=lambda state: (state != FINISHED, state))
    return ", ".join(f"{states.count(state)} {state}" for state in known)
