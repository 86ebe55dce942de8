"""Node compare: the suite's variants side by side, in the terminal, as CSV and as Markdown."""

from pathlib import Path

from stages.reporting.chart import draw_leak
from stages.reporting.comparison import as_markdown, compare, print_table
from stages.reporting.curves import collect_curves
from stages.reporting.gap import as_markdown as gap_as_markdown
from stages.reporting.gap import explain_gap
from stages.reporting.label_issues import find_label_issues
from stages.workspace.errors import run_node
from stages.workspace.files import whole_file, write_csv
from stages.workspace.params import TASKS, Params, load_params
from stages.workspace.plans import run_name

PREDICTIONS = Path("data/predictions")
COMPARISON = Path("data/comparison")


def main() -> None:
    """Read what the suite's variants left, only those, and write the tables."""
    params = load_params()
    runs = [run_name(v, condition) for v in params.suite for condition in (None, *params.repeats)]
    table = compare(Path("metrics"), params.suite, params.repeats)
    gap = explain_gap(PREDICTIONS, table)
    write_csv(COMPARISON / "curves.csv", collect_curves(Path("data/curves"), runs))
    write_csv(COMPARISON / "comparison.csv", table)
    write_csv(COMPARISON / "gap.csv", gap)
    with whole_file(COMPARISON / "comparison.md") as partial:
        partial.write_text(as_markdown(table) + gap_as_markdown(gap), encoding="utf-8")
    draw_leak(COMPARISON / "leak.svg", table)
    classes = {task: params.classes.of(task) for task in TASKS}
    issues = find_label_issues(PREDICTIONS, fold_runs(params), classes)
    write_csv(COMPARISON / "label_issues.csv", issues)
    print_table(table)
    print(gap_as_markdown(gap), end="")


def fold_runs(params: Params) -> list[list[str]]:
    """For each variant, its runs of all folds; nothing unless every fold is among the repeats."""
    folds = [f"fold-{number}" for number in range(params.split.folds)]
    if not folds or not set(folds) <= set(params.repeats):
        return []
    return [[run_name(variant, fold) for fold in folds] for variant in params.suite]


if __name__ == "__main__":
    run_node(main)
