"""Node compare: the suite's variants side by side, in the terminal, as CSV and as Markdown."""

from pathlib import Path

from stages.faces.stratification import read_split
from stages.reporting.comparison import as_markdown, compare, print_table
from stages.reporting.costs import read_costs, read_timings
from stages.reporting.curves import collect_curves
from stages.reporting.predictions import groups_of, prediction_file, read_predictions
from stages.reporting.significance import describe, pairwise_tests
from stages.workspace.errors import run_node
from stages.workspace.files import whole_file, write_csv
from stages.workspace.params import TASKS, Params, load_params
from stages.workspace.plans import run_name

COMPARISON = Path("data/comparison")
TIMINGS = Path("data/timings")  # not tracked: no two runs take the same time


def main() -> None:
    """Read what the suite's variants left, only those, and write the tables."""
    params = load_params()
    suite = [run_name(v, condition) for v in params.suite for condition in (None, *params.repeats)]
    table = compare(Path("metrics"), suite)
    costs = read_costs(Path("data/evaluation"), suite)
    write_csv(COMPARISON / "curves.csv", collect_curves(Path("data/curves"), suite))
    write_csv(COMPARISON / "comparison.csv", table.merge(costs, on="variant", how="left"))
    with whole_file(COMPARISON / "comparison.md") as partial:
        partial.write_text(as_markdown(table), encoding="utf-8")
    print_table(table)
    timings = read_timings(TIMINGS, suite)
    write_csv(TIMINGS / "comparison.csv", timings)
    print(costs.merge(timings, on="variant").to_string(index=False, na_rep="-"))
    compare_pairs(params, suite)


def compare_pairs(params: Params, suite: list[str]) -> None:
    """Write the paired tests of all variants, and print what they come to."""
    classes = {task: params.classes.of(task) for task in TASKS}
    files = {run: prediction_file(Path("data/predictions"), run, "test") for run in suite}
    runs = {run: read_predictions(file, classes) for run, file in files.items()}
    split = read_split(Path("data/split/split.csv"))
    groups = {run: groups_of(predictions, split) for run, predictions in runs.items()}
    rules = params.evaluate
    tests = pairwise_tests(runs, groups, rules.confidence, rules.resamples, params.seed)
    write_csv(COMPARISON / "tests.csv", tests)
    print(*describe(tests, runs, 1 - rules.confidence), sep="\n")


if __name__ == "__main__":
    run_node(main)
