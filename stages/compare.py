"""Stage compare: all runs side by side, in the terminal, as CSV and as Markdown."""

import pandas as pd

from stages.comparison.baselines import name_baselines
from stages.comparison.contrasts import contrast_tests
from stages.comparison.label_issues import find_label_issues
from stages.comparison.label_noise import label_noise
from stages.comparison.leakage import explain_leakage
from stages.comparison.significance import describe, pairwise_tests
from stages.comparison.table import compare, read_published, with_epochs, with_intervals
from stages.comparison.trainings import accuracy_over_cost, collect_curves, read_costs, read_timings
from stages.core.files import atomic_write, read_csv, write_csv
from stages.core.params import Params, load_params
from stages.core.paths import (
    COMPARISON,
    CONFLICTING,
    CURVES,
    EVALUATION,
    PREDICTIONS,
    SPLIT,
    TIMINGS,
    RunPaths,
)
from stages.core.run_names import RunName
from stages.core.sections import TASKS
from stages.core.stage import run_stage
from stages.core.variants import Variant
from stages.dataset.split_files import read_split
from stages.evaluation.predictions import groups_of, read_predictions
from stages.reporting import comparison_tables as tables
from stages.reporting.comparison_charts import draw_contrasts, draw_cost, draw_leak

# Of params those that differ, of metrics those of one run; without it DVC prints all columns.
EXPERIMENTS = (
    "dvc exp show --only-changed --drop '.*/|.*(yaml|toml)|metrics|models|Created' \\\n"
    "    --keep '.*{}.json:(age|score)'"
)


def main() -> None:
    """Read the results of the runs and write the tables."""
    params = load_params()
    runs = params.runs
    curves = collect_curves(CURVES, runs)
    published = read_published(params.data.source, params.classes.age_upper_bounds)
    table = with_epochs(compare(EVALUATION, params.run_names, published), curves)
    table = with_intervals(table, EVALUATION)
    noise = noise_of_labels(params)
    write_csv(COMPARISON / "label_noise.csv", noise)
    for task, wrong in zip(noise["task"], noise["wrong"], strict=True):
        table[f"ceiling_{task}_accuracy"] = 1 - wrong
    costs = read_costs(EVALUATION, params.evaluated)
    leakage = explain_leakage(PREDICTIONS, table)
    write_csv(COMPARISON / "curves.csv", curves)
    cost = accuracy_over_cost(curves, costs)
    write_csv(COMPARISON / "cost.csv", cost)
    draw_cost(COMPARISON / "cost.svg", cost)
    write_csv(COMPARISON / "comparison.csv", table.merge(costs, on="variant", how="left"))
    write_csv(COMPARISON / "leakage.csv", leakage)
    baselines = name_baselines(read_split(SPLIT), params.classes.age_upper_bounds)
    write_csv(COMPARISON / "baselines.csv", baselines)
    with atomic_write(COMPARISON / "comparison.md") as partial:
        leaked = tables.leakage_markdown(leakage)
        limits = tables.noise_markdown(noise, published)
        limits += tables.baselines_markdown(baselines)
        text = tables.comparison_markdown(table) + limits + leaked
        files = {name: _weights_file(variant) for name, variant in params.variants.items()}
        text += tables.untrained_markdown(table, published, files)
        partial.write_text(text, encoding="utf-8")
    draw_leak(COMPARISON / "leak.svg", table, noise)
    classes = {task: params.classes.of(task) for task in TASKS}
    issues = find_label_issues(PREDICTIONS, fold_runs(params), classes)
    write_csv(COMPARISON / "label_issues.csv", issues)
    timings = read_timings(TIMINGS, runs)
    write_csv(TIMINGS / "comparison.csv", timings)
    tables.print_comparison(table, costs.merge(timings, on="variant", how="left"))
    tables.print_paragraph(limits)
    # Networks that were trained on their test images are not tested against others.
    honest = [run.text for run in params.run_names if not run.is_published_split]
    compare_pairs(params, honest)
    print(f"experiments side by side:\n  {EXPERIMENTS.format(runs[0])}")
    number = len(params.evaluated)
    print(f"compare: {number} run{'s' * (number != 1)}; {COMPARISON / 'comparison.md'}")


def _weights_file(variant: Variant) -> str:
    """The key of `pretrained` that a variant starts from; empty for none."""
    return "" if variant.weights == "none" else f"{variant.backbone}-{variant.weights}"


def noise_of_labels(params: Params) -> pd.DataFrame:
    """The share of wrong labels, by the copies of pictures."""
    columns = ["group", *TASKS]
    conflicting = read_csv(CONFLICTING, columns, "split")
    rules, bounds = params.evaluate, params.classes.age_upper_bounds
    settings = (bounds, rules.confidence, rules.resamples, params.seed)
    return label_noise(read_split(SPLIT), conflicting, *settings)


def compare_pairs(params: Params, names: list[str]) -> None:
    """Write the paired tests of all variants, and print their results."""
    classes = {task: params.classes.of(task) for task in TASKS}
    files = {run: RunPaths(run).predictions("test") for run in names}
    runs = {run: read_predictions(file, classes) for run, file in files.items()}
    split = read_split(SPLIT)
    groups = {run: groups_of(predictions, split) for run, predictions in runs.items()}
    rules = params.evaluate
    tests = pairwise_tests(runs, groups, rules.confidence, rules.resamples, params.seed)
    write_csv(COMPARISON / "tests.csv", tests)
    for line in describe(tests, runs, 1 - rules.confidence):
        tables.print_paragraph(line)
    any_run = next(run for run in names if not RunName.parse(run).suffix)
    # Folds have other test images, native runs other pixels: they are no seeds of a variant.
    whole = {
        run: predictions
        for run, predictions in runs.items()
        if predictions.names == runs[any_run].names and not RunName.parse(run).native
    }
    settings = (rules.confidence, rules.equivalence)
    contrasts = contrast_tests(params.contrasts, whole, groups[any_run], *settings)
    write_csv(COMPARISON / "contrasts.csv", contrasts)
    draw_contrasts(COMPARISON / "contrasts.svg", contrasts, rules.equivalence)
    if not contrasts.empty:
        print(tables.contrast_table(contrasts).as_text(), end="\n\n")


def fold_runs(params: Params) -> list[list[str]]:
    """For each variant its runs of all folds; nothing for a variant that lacks a fold."""
    folds: dict[str, list[str]] = {}
    for run in params.run_names:
        if run.fold is not None and run.seed is None and not run.native:
            folds.setdefault(run.variant, []).append(run.text)
    return [runs for runs in folds.values() if len(runs) == params.split.folds]


if __name__ == "__main__":
    run_stage(main)
