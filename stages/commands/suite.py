"""The published variants as DVC experiments, one each: `utkface-mtl suite`, `make suite`.

    queue    queue all that are neither finished, running nor queued (what make suite does)
    table    the state and the test scores of each, at any time; writes data/suite.csv
    compare  one run of the workflow with all that are finished, up to comparison and report

`utkface-mtl tune run` works off the queue. A training that was stopped is a failed
experiment; queued again, it goes on from its checkpoint. `compare` trains nothing anew: networks
come from DVC's run cache. Like any `dvc exp run -S` it leaves its suite in params.yaml.
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

from stages.comparison.table import NAMES, PUBLISHED
from stages.core.errors import UserError, run_stage
from stages.core.files import write_csv
from stages.core.params import TASKS, Params, load_params, suggestion
from stages.runs.outcomes import judge, missing
from stages.runs.queue import FINISHED, Queue, open_queue
from stages.runs.resolve import run_name, stage_name
from stages.runs.searches import Combination, basis

METRICS = Path("metrics")
TABLE = Path("data/suite.csv")
NOT_QUEUED = "not queued"


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("queue", "table", "compare"))
    parser.add_argument("variants", nargs="*", help="names; default: all published ones")
    arguments = parser.parse_args()
    params = load_params()
    wanted = experiments(params, arguments.variants or published_variants())
    logging.getLogger().setLevel(logging.ERROR)  # of DVC's queue: what is expected here
    with open_queue() as queue:
        if arguments.command == "queue":
            enqueue(params, queue, wanted)
            return
        states, found = judge(params, queue, wanted, METRICS, follows_from)
    show(wanted, states, found)
    if arguments.command == "compare":
        compare(params, [each.variant for each in wanted if each.name in found])


def published_variants() -> list[str]:
    """The names of the published variants, in the order of their table."""
    return list(pd.read_csv(PUBLISHED)["variant"])


def experiments(params: Params, variants: list[str]) -> list[Combination]:
    """An experiment for each variant.

    Raises:
        UserError: a variant is not in params.yaml.
    """
    for name in variants:
        if name not in params.variants or name not in params.training:
            near = suggestion(name, params.variants)
            raise UserError(f"unknown variant {name!r}{near}; see `utkface-mtl variants`")
    return [Combination(f"suite-{name}", name, {}, _suite_of(params, [name])) for name in variants]


def _suite_of(params: Params, variants: list[str]) -> dict[str, list[str]]:
    """The overrides that make these variants the suite; repeated is who was repeated before."""
    repeated = [name for name in variants if params.conditions(name)]
    conditions = list(params.repeats.conditions) if repeated else []
    return {"suite": variants, "repeats.variants": repeated, "repeats.conditions": conditions}


def follows_from(params: Params, variant: str) -> object:
    """All params that a variant's scores follow from."""
    return basis(params, variant), params.evaluate, params.conditions(variant)


def enqueue(params: Params, queue: Queue, wanted: list[Combination]) -> None:
    """Queue what is missing, each variant with its repeats."""
    if queue.uncommitted():
        print(
            "warning: uncommitted changes; the experiments have them, but belong to the last "
            "commit, and after the next one no longer count",
            file=sys.stderr,
        )
    queue.forget_dead()
    states, _ = judge(params, queue, wanted, METRICS, follows_from)
    todo = missing(wanted, states)
    for each in todo:
        runs = [run_name(each.variant, c) for c in (None, *params.conditions(each.variant))]
        queue.add(each.name, [stage_name(run, "evaluate") for run in runs], each.changes)
    counts = _counted([states.get(each.name, NOT_QUEUED) for each in wanted if each not in todo])
    print(f"suite: {len(todo)} of {len(wanted)} variants queued{counts and '; ' + counts}")


def show(
    wanted: list[Combination], states: dict[str, str], found: dict[str, dict[str, Any]]
) -> None:
    """Write the table of all variants; print their accuracies beside the published ones."""
    printed = pd.read_csv(PUBLISHED, index_col="variant")
    rows = []
    for each in wanted:
        scores = found.get(each.name, {})
        row: dict[str, Any] = {
            "variant": each.variant,
            "state": states.get(each.name, NOT_QUEUED),
            "images": scores.get("images"),
        }
        for name in NAMES:
            task, _, figure = name.partition("_")
            row[name] = scores.get(task, {}).get(figure)
            if each.variant in printed.index:
                row[f"published_{name}"] = printed.at[each.variant, name]
        rows.append(row)
    table = pd.DataFrame(rows).astype({"images": "Int64"})
    write_csv(TABLE, table)
    shown = ["variant", "state"]
    for task in TASKS:
        shown += [c for c in (f"published_{task}_accuracy", f"{task}_accuracy") if c in table]
    text = table[shown].astype(object)
    text = text.where(text.notna(), "")
    print(tabulate(text, headers="keys", floatfmt=".3f", showindex=False))
    print(f"suite: {_counted(list(table['state']))}; {TABLE}")


def compare(params: Params, variants: list[str]) -> None:
    """Run the workflow with these variants as its suite.

    Raises:
        UserError: there are none.
    """
    if not variants:
        raise UserError("no variant of the suite is finished; `make suite` queues them")
    overrides = _suite_of(params, variants)
    changes = [f"--set-param={key}=[{','.join(names)}]" for key, names in overrides.items()]
    folder = Path(sys.executable).parent  # of the `python` that the stages start
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "run", *changes],
        env=os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        check=False,
    )
    if done.returncode:
        raise UserError("the comparison did not come to its end; DVC said why")
    print(f"suite: {len(variants)} variants compared; data/comparison/, report/index.html")


def _counted(states: list[str]) -> str:
    known = sorted(set(states), key=lambda state: (state != FINISHED, state))
    return ", ".join(f"{states.count(state)} {state}" for state in known)


if __name__ == "__main__":
    run_stage(main)
