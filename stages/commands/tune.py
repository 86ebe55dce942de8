"""Searches for the best setting, as DVC experiments.

`search <name>` does what the others do one by one: it queues what is missing, runs the queue and
shows the outcome. A training that was stopped is a failed experiment; queued again, it goes on from
its checkpoint.
"""

import argparse
import logging
import signal
import sys
from functools import partial

from stages.core.errors import UserError
from stages.core.files import atomic_write, write_csv
from stages.core.params import Params, load_params
from stages.core.paths import TUNING
from stages.core.sections import suggestion
from stages.reporting.search_pages import draw_search, search_markdown
from stages.tuning.outcomes import judge, missing
from stages.tuning.queue import FAILED, FINISHED, Queue, open_queue
from stages.tuning.search_table import tabulate_changes, tabulate_search
from stages.tuning.searches import Combination, combinations, training_inputs

TRAINING = "data/training/{run}.json"


def main() -> None:
    """Queue, run or show a search."""
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
    if getattr(arguments, "jobs", 1) < 1:
        parser.error("--jobs must be at least 1")
    params = load_params()
    if (search := getattr(arguments, "search", None)) is not None and search not in params.searches:
        known = ", ".join(params.searches)
        near = suggestion(search, params.searches)
        raise UserError(f"unknown search {search!r}{near}; in params.yaml: {known}")
    logging.getLogger().setLevel(logging.ERROR)  # of DVC's queue: what is expected here
    with open_queue() as queue:
        if arguments.command in ("search", "queue"):
            number = enqueue(params, queue, arguments.search)
            last = arguments.command == "queue"
            message = f"tune: {number} settings of {arguments.search} queued"
            print(message, file=sys.stdout if last else sys.stderr)
        if arguments.command in ("search", "run"):
            run(queue, arguments.jobs)
        if arguments.command == "run":
            states = list(queue.states().values())
            print(f"tune: {states.count(FINISHED)} finished, {states.count(FAILED)} failed")
        if arguments.command in ("search", "table"):
            show(params, queue, arguments.search)


def enqueue(params: Params, queue: Queue, search: str) -> int:
    """Queue what is missing of a search; returns how many settings."""
    grid = _grid(params, search)
    queue.forget_dead()
    states, _ = judge(params, queue, grid, TRAINING, training_inputs)
    todo = missing(grid, states)
    for each in todo:
        queue.add(each.name, [f"train@{each.run}"], each.changes)
    return len(todo)


def _grid(params: Params, search: str) -> list[Combination]:
    """All settings; a UserError at the first that does not fit, before any is trained."""
    grid = combinations(params, search)
    for each in grid:
        each.applied(params)
    return grid


def run(queue: Queue, jobs: int) -> None:
    """Run the queue until it is empty; SIGTERM ends it like Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        queue.work_off(jobs, partial(print, file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        sys.exit("stopped; what ran is queued again by the command that queued it")


def show(params: Params, queue: Queue, search: str) -> None:
    """Write the table as CSV and Markdown and its picture; print table and best setting."""
    chosen = params.searches[search]
    grid = _grid(params, search)
    states, summaries = judge(params, queue, grid, TRAINING, training_inputs)
    if chosen.vary == "one-by-one":
        table = tabulate_changes(grid, states, summaries)
    else:
        table = tabulate_search(grid, states, summaries, chosen.published)
    text = search_markdown(table, chosen, search)
    write_csv(TUNING / f"{search}.csv", table)
    with atomic_write(TUNING / f"{search}.md") as file:
        file.write_text(text, encoding="utf-8")
    draw_search(table, chosen, search, TUNING / f"{search}.png")
    print(text)
    if other := queue.elsewhere(combination.name for combination in grid):
        print(
            f"{other} experiments of these names belong to other commits and are not shown; "
            "queued again, those that nothing changed for come from DVC's run cache.",
            file=sys.stderr,
        )
    print(f"tune: {TUNING / search}.csv, .md, .png")
