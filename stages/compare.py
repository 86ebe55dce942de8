"""Node compare: the suite's variants side by side, in the terminal, as CSV and as Markdown."""

from pathlib import Path

from stages.reporting.comparison import as_markdown, compare, print_table
from stages.reporting.curves import collect_curves
from stages.workspace.errors import run_node
from stages.workspace.files import whole_file, write_csv
from stages.workspace.params import load_params
from stages.workspace.plans import run_name

COMPARISON = Path("data/comparison")


def main() -> None:
    """Read metrics and curves of the suite's variants, only of those, and write the tables."""
    params = load_params()
    suite = [run_name(v, condition) for v in params.suite for condition in (None, *params.repeats)]
    table = compare(Path("metrics"), suite)
    write_csv(COMPARISON / "curves.csv", collect_curves(Path("data/curves"), suite))
    write_csv(COMPARISON / "comparison.csv", table)
    with whole_file(COMPARISON / "comparison.md") as partial:
        partial.write_text(as_markdown(table), encoding="utf-8")
    print_table(table)


if __name__ == "__main__":
    run_node(main)
