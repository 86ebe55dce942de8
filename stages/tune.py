"""Searches for the best setting, as DVC experiments.

search <name> is all of the others: queue what is missing, run the queue, show the outcome.
A training that was stopped is a failed experiment; queued again, it goes on from its checkpoint.
"""

import argparse
import logging
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from stages.reporting.ablation import changes_as_markdown, draw_changes, tabulate_changes
from stages.reporting.tuning import as_markdown, describe, draw_heat_map, tabulate_search
from stages.workspace.errors import UserError, run_node
from stages.workspace.experiments import FAILED, FINISHED, Queue, open_queue, read_experiment
from stages.workspace.files import whole_file, write_csv
from stages.workspace.params import Params, load_params, suggestion
from stages.workspace.searches import Combination, basis, combinations

TUNING = Path("data/tuning")
TRAINING = Path("data/training")
OUTDATED, LOST = "outdated", "lost"  # states beside the queue's: see `finished_summaries`


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command, text in {
        "search": "queue, run and table in one",
        "queue": "queue all settings that are neither finished, running nor queued",
        "run": "run everything that is queued; may be stopped at any time",
        "table": "table, picture and best setting, also while some are not finished",
    }.items():
        sub = commands.add_parser(command, help=text)
        if command != "run":
            sub.add_argument("search", help="a name from searches in params.yaml")
        if command in ("search", "run"):
            sub.add_argument("--jobs", type=int, default=1, help="trainings at the same time")
    arguments = parser.parse_args()
    params = load_params()
    if (search := getattr(arguments, "search", None)) is not None and search not in params.searches:
        known = ", ".join(params.searches)
        near = suggestion(search, params.searches)
        raise UserError(f"unknown search {search!r}{near}; in params.yaml: {known}")
    logging.getLogger().setLevel(logging.ERROR)  # of DVC's queue: what is expected here
    with open_queue() as queue:
        if arguments.command in ("search", "queue"):
            enqueue(params, queue, arguments.search)
        if arguments.command in ("search", "run"):
            run(queue, arguments.jobs)
        if arguments.command in ("search", "table"):
            show(params, queue, arguments.search)


def enqueue(params: Params, queue: Queue, search: str) -> None:
    """Queue what is missing of a search.

    Raises:
        UserError: experiments of these names are finished, but with other params or without
            their figures.
    """
    queue.forget_dead()
    grid, (states, _) = combinations(params, search), judge(params, queue, search)
    for state, fault in {
        OUTDATED: "finished on this commit with other params; commit params.yaml, which begins "
        "the search anew, or remove them",
        LOST: "finished, but their figures are not in DVC's cache; remove them",
    }.items():
        if names := [c.name for c in grid if states.get(c.name) == state]:
            raise UserError(f"{fault}: dvc exp remove {' '.join(names)}")
    variant = params.searches[search].variant
    missing = [c for c in grid if states.get(c.name, FAILED) == FAILED]
    for combination in missing:
        queue.add(combination.name, f"train@{variant}", combination.changes)
    print(f"tune: {len(missing)} settings of {search} queued")


def run(queue: Queue, jobs: int) -> None:
    """Run the queue until it is empty; SIGTERM ends it like Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        queue.work_off(jobs, partial(print, flush=True))
    except KeyboardInterrupt:
        sys.exit("stopped; go on with: python -m stages.tune search <name>")


def show(params: Params, queue: Queue, search: str) -> None:
    """Write the table as CSV and Markdown and its picture; print table and best setting."""
    states, summaries = judge(params, queue, search)
    chosen = params.searches[search]
    grid = combinations(params, search)
    title = f"{search}: {chosen.variant}"
    if chosen.vary == "one-by-one":
        table = tabulate_changes(grid, states, summaries)
        text = changes_as_markdown(table, title)
        draw = partial(draw_changes, table, title)
    else:
        table = tabulate_search(grid, states, summaries, chosen.published)
        names = list(chosen.grid)
        text = as_markdown(table, title, describe(table, names, chosen.published))
        draw = partial(draw_heat_map, table, names, title)
    write_csv(TUNING / f"{search}.csv", table)
    with whole_file(TUNING / f"{search}.md") as file:
        file.write_text(text, encoding="utf-8")
    with whole_file(TUNING / f"{search}.png") as file:
        draw(file)
    print(text)
    if other := queue.elsewhere(combination.name for combination in grid):
        print(
            f"{other} experiments of these names belong to other commits and are not shown; "
            "queued again, those that nothing changed for come from DVC's run cache."
        )


def judge(
    params: Params, queue: Queue, search: str
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """The states of a search's experiments, and what the finished trainings wrote, by name.

    Finished counts only what follows from the params as they are; else it is `outdated`, or
    `lost` where DVC's cache no longer has its figures.
    """
    variant = params.searches[search].variant
    finished, states = queue.finished(), queue.states()
    summaries = {}
    for combination in combinations(params, search):
        name = combination.name
        if states.get(name) != FINISHED:
            continue
        found = read_experiment(finished[name], TRAINING / f"{variant}.json")
        if found is None:
            states[name] = LOST
        elif _differs(params, combination, variant, found[0]):
            states[name] = OUTDATED
        else:
            summaries[name] = found[1]
    return states, summaries


def _differs(params: Params, combination: Combination, variant: str, then: Params) -> bool:
    return basis(combination.applied(params), variant) != basis(then, variant)


if __name__ == "__main__":
    run_node(main)
