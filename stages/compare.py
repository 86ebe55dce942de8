"""Node compare: the suite's variants side by side, in the terminal, as CSV and as Markdown."""

from pathlib import Path

from stages.comparison.costs import accuracy_over_cost, read_costs, read_timings
from stages.comparison.curves import collect_curves
from stages.comparison.label_issues import find_label_issues
from stages.comparison.leakage import explain_leakage
from stages.comparison.significance import describe, pairwise_tests
from stages.comparison.table import compare, with_epochs, with_intervals
from stages.core.errors import run_stage
from stages.core.files import atomic_write, write_csv
from stages.core.params import TASKS, Params, load_params
from stages.evaluation.predictions import groups_of, prediction_file, read_predictions
from stages.reporting.comparison_charts import draw_cost, draw_leak
from stages.reporting.comparison_tables import (
    comparison_markdown,
    leakage_markdown,
    print_comparison,
)
from stages.runs.resolve import PUBLISHED_SPLIT, run_name, run_names
from stages.splitting.stratified import read_split

PREDICTIONS = Path("data/predictions")
EVALUATION = Path("data/evaluation")
COMPARISON = Path("data/comparison")
TIMINGS = Path("data/timings")  # not tracked: no two runs take the same time


def main() -> None:
    """Read what the suite's variants left, only those, and write the tables."""
    params = load_params()
    runs = run_names(params)
    curves = collect_curves(Path("data/curves"), runs)
    conditions = {variant: params.conditions(variant) for variant in params.suite}
    table = with_epochs(compare(Path("metrics"), conditions), curves)
    table = with_intervals(table, EVALUATION)
    costs = read_costs(EVALUATION, runs)
    gap = explain_leakage(PREDICTIONS, table)
    write_csv(COMPARISON / "curves.csv", curves)
    cost = accuracy_over_cost(curves, costs)
    write_csv(COMPARISON / "cost.csv", cost)
    draw_cost(COMPARISON / "cost.svg", cost)
    write_csv(COMPARISON / "comparison.csv", table.merge(costs, on="variant", how="left"))
    write_csv(COMPARISON / "leakage.csv", gap)
    with atomic_write(COMPARISON / "comparison.md") as partial:
        partial.write_text(comparison_markdown(table) + leakage_markdown(gap), encoding="utf-8")
    draw_leak(COMPARISON / "leak.svg", table)
    classes = {task: params.classes.of(task) for task in TASKS}
    issues = find_label_issues(PREDICTIONS, fold_runs(params), classes)
    write_csv(COMPARISON / "label_issues.csv", issues)
    print_comparison(table)
    print(leakage_markdown(gap), end="")
    timings = read_timings(TIMINGS, runs)
    write_csv(TIMINGS / "comparison.csv", timings)
    print(costs.merge(timings, on="variant").to_string(index=False, na_rep="-"))
    # A network that was trained on its test images has nothing to prove on them.
    compare_pairs(params, [run for run in runs if not run.endswith(f"+{PUBLISHED_SPLIT}")])
    print(f"compare: {len(runs)} run{'s' * (len(runs) != 1)}; {COMPARISON / 'comparison.md'}")


def compare_pairs(params: Params, names: list[str]) -> None:
    """Write the paired tests of all variants, and print what they come to."""
    classes = {task: params.classes.of(task) for task in TASKS}
    files = {run: prediction_file(PREDICTIONS, run, "test") for run in names}
    runs = {run: read_predictions(file, classes) for run, file in files.items()}
    split = read_split(Path("data/split/split.csv"))
    groups = {run: groups_of(predictions, split) for run, predictions in runs.items()}
    rules = params.evaluate
    tests = pairwise_tests(runs, groups, rules.confidence, rules.resamples, params.seed)
    write_csv(COMPARISON / "tests.csv", tests)
    print(*describe(tests, runs, 1 - rules.confidence), sep="\n")


def fold_runs(params: Params) -> list[list[str]]:
    """For each repeated variant, its runs of all folds; nothing unless every fold is repeated."""
    folds = [f"fold-{number}" for number in range(params.split.folds)]
    if not folds or not set(folds) <= set(params.repeats.conditions):
        return []
    return [[run_name(variant, fold) for fold in folds] for variant in params.repeats.variants]


if __name__ == "__main__":
    run_stage(main)
