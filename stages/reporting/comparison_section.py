"""The report's tables and charts of all runs side by side."""

from collections.abc import Sequence

import pandas as pd

from stages.comparison.ablation import describe_changes
from stages.comparison.table import FOLDS, KINDS, SEEDS
from stages.core.sections import TASKS
from stages.core.variants import Search
from stages.evaluation.scores import COMBINED
from stages.reporting import charts as charts
from stages.reporting.model_charts import change_bars, search_map
from stages.reporting.results import Results
from stages.reporting.tables import (
    EMPTY,
    Cell,
    Table,
    count,
    crossed,
    decimal,
    make_table,
    p_value,
    percent,
    share,
    signed,
    with_interval,
)
from stages.reporting.vega import Chart
from stages.tuning.searches import label

_FIGURES = {"accuracy": "Accuracy", "macro_f1": "Macro F1"}


_CURVES = (
    "score",
    "age accuracy",
    "gender accuracy",
    "race accuracy",
    "loss",
    "age loss",
    "gender loss",
    "race loss",
)


def curve_charts(results: Results) -> list[Chart]:
    """A chart for each figure, in it every variant as it stands."""
    curves = results.curves[results.curves["variant"].isin(list(results.runs))]
    found = []
    for figure in _CURVES:
        table = curves[curves["figure"] == figure]
        if table.empty:
            continue
        val = table[table["side"] == "val"]
        best = val.loc[val["value"].idxmin() if "loss" in figure else val["value"].idxmax()]
        words = (
            f"Best on validation images: {best['value']:.3f}, {best['variant']}, "
            f"epoch {best['epoch']}"
        )
        shown = table[["variant", "side", "epoch", "value"]]
        found.append(Chart(figure.capitalize(), words, charts.curves(shown, figure)))
    return found


def comparison_table(results: Results, figure: str) -> Table:
    """All runs side by side: honest with interval, rerun and published, for each task.

    Args:
        results: of the workspace.
        figure: `accuracy` or `macro_f1`.
    """
    table = results.comparison
    kinds = [
        k for k in KINDS if table[[_column(k, t, figure) for t in TASKS]].notna().any(axis=None)
    ]
    rows = []
    for _, row in table.iterrows():
        cells = [Cell(row_name(row))]
        for task in TASKS:
            for kind in kinds:
                cells.append(_figure(results, row, kind, task, figure))
        rows.append([*cells, *([_combined(results, row)] if figure == "accuracy" else [])])
    header = [f"{task} {kind}" for task in TASKS for kind in kinds]
    header += ["combined score"] if figure == "accuracy" else []
    return crossed(_FIGURES[figure], "variant", header, rows)


def _column(kind: str, task: str, figure: str) -> str:
    return f"{KINDS[kind]}{task}_{figure}"


def row_name(row: pd.Series) -> str:
    """What a row of the comparison is of."""
    variant, _, condition = str(row["variant"]).partition("+")
    several = f"{row['runs']} " if condition in (SEEDS, FOLDS) else ""
    return f"{variant}, {several}{condition}" if condition else variant


def _figure(results: Results, row: pd.Series, kind: str, task: str, figure: str) -> Cell:
    value = row[_column(kind, task, figure)]
    if pd.isna(value):
        return Cell(EMPTY)
    run = results.runs.get(row["variant"])
    if kind == "honest" and run is not None:
        return with_interval(*run.score(task, figure))
    text = share(value)
    if kind == "honest" and pd.notna(deviation := row[f"sd_{task}_{figure}"]):
        text += f" ± {deviation:.3f}"
    if kind == "honest" and pd.notna(difference := row[f"difference_{task}_{figure}"]):
        text += f" ({difference:+.3f})"
    return Cell(text, float(value))


def _combined(results: Results, row: pd.Series) -> Cell:
    run = results.runs.get(row["variant"])
    return with_interval(*run.score(COMBINED, "score")) if run else Cell(EMPTY)


def accuracy_charts(results: Results, kinds: Sequence[str] = tuple(KINDS)) -> list[Chart]:
    """A chart for each task: the accuracies of every variant, the honest ones with intervals.

    Args:
        results: of the workspace.
        kinds: of accuracies: `published`, `rerun`, `honest`.
    """
    table = results.comparison.set_index("variant")
    found = []
    for task in TASKS:
        rows = [
            (variant, kind, float(value), *_ends(results, variant, kind, task))
            for variant in results.runs
            for kind in kinds
            if pd.notna(value := table.at[variant, _column(kind, task, "accuracy")])
        ]
        if rows:
            shown = pd.DataFrame(rows, columns=["variant", "kind", "accuracy", "low", "high"])
            best = shown[shown["kind"] == "honest"].nlargest(1, "accuracy").iloc[0]
            words = f"The highest honest accuracy is {best['accuracy']:.3f}, of {best['variant']}"
            title = f"Accuracy{' by protocol' * ('rerun' in kinds)}, {task}"
            found.append(Chart(title, words, charts.accuracies(shown)))
    return found


def _ends(results: Results, variant: str, kind: str, task: str) -> tuple[float, float]:
    """The interval of an accuracy; none but of an honest one."""
    if kind != "honest":
        return float("nan"), float("nan")
    return results.runs[variant].score(task, "accuracy")[1:]


def tests_table(tests: pd.DataFrame, confidence: float) -> Table:
    """The paired tests of all runs.

    Args:
        tests: as `significance.pairwise_tests` gives them.
        confidence: of the intervals.
    """
    rows = [
        [
            *map(Cell, (row["variant_a"], row["variant_b"], row["task"])),
            Cell(signed(row["difference"]), row["difference"], _signed(row["low"], row["high"])),
            *(Cell(p_value(row[p]), row[p]) for p in ("p_bootstrap", "p_mcnemar", "p_holm")),
        ]
        for row in tests.to_dict(orient="records")
    ]
    return Table(
        f"Paired tests: accuracy of the first minus that of the second, {confidence:.0%} intervals",
        ["first", "second", "task", "difference", "p bootstrap", "p McNemar", "p Holm"],
        [False] * 3 + [True] * 4,
        rows,
    )


def _signed(low: float, high: float) -> str:
    return f"[{signed(low)}, {signed(high)}]"


def costs_table(results: Results) -> Table:
    """Parameters, size and arithmetic of each variant, and the time of its training if wanted."""
    rows = []
    timings = None if results.timings is None else results.timings.set_index("variant")
    for variant, run in results.runs.items():
        costs = run.costs
        numbers = [
            (costs["parameters"], count),
            (costs["trainable_parameters"], count),
            (costs["megabytes"], decimal(1)),
            (costs["gflops"], decimal(3)),
            (run.training["epochs_run"], count),
        ]
        if timings is not None:
            timing = timings.loc[variant]
            numbers += [
                (timing["seconds"], decimal(0)),
                (timing["images_per_second"], decimal(1)),
            ]
        rows.append(
            [Cell(variant)]
            + [Cell(EMPTY) if pd.isna(n) else Cell(form(n), float(n)) for n, form in numbers]
        )
    header = ["parameters", "that learn", "MB", "GFLOPs per image", "epochs"]
    if timings is not None:
        header += ["training, s", "training, images/s"]
    return crossed("What the variants cost", "variant", header, rows)


def costs_chart(results: Results) -> Chart:
    """The combined score over the arithmetic."""
    rows = [
        (v, run.costs["gflops"], run.costs["parameters"], *run.score(COMBINED, "score"))
        for v, run in results.runs.items()
    ]
    table = pd.DataFrame(rows, columns=["variant", "gflops", "parameters", "score", "low", "high"])
    least = table.loc[table["gflops"].idxmin()]
    words = f"{least['variant']} needs the least: {least['gflops']:.3f} GFLOPs per image"
    return Chart("Combined score and arithmetic", words, charts.costs_and_scores(table))


def fairness_table(results: Results) -> Table:
    """How far subgroups lie apart, of every variant, where two can be compared."""
    parts = [
        run.tables["fairness"].assign(variant=variant) for variant, run in results.runs.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    columns = [
        "variant",
        "task",
        "by",
        "groups",
        "worst",
        "worst_accuracy",
        "best",
        "best_accuracy",
        "gap",
        "odds_difference",
        "odds_class",
    ]
    table = table.loc[table["gap"].notna() | table["odds_difference"].notna(), columns]
    numbers = dict.fromkeys(["worst_accuracy", "best_accuracy", "gap", "odds_difference"], share)
    titles = {
        "groups": "groups compared",
        "odds_difference": "equalised odds difference",
        "odds_class": "of the class",
    }
    caption = "Gaps between subgroups"
    return make_table(caption, table, {**numbers, "groups": count}, titles)


def leakage_table(gap: pd.DataFrame) -> Table:
    """The published protocol taken apart."""
    numbers = {name: share for name in gap.columns if name.endswith("_accuracy")}
    titles = {
        "seen_share": "share seen",
        "seen_accuracy": "accuracy on seen",
        "unseen_accuracy": "accuracy on the others",
        "rerun_accuracy": "under the protocol",
        "honest_accuracy": "honest",
        "expected_accuracy": "as the arithmetic has it",
    }
    formats = {**numbers, "images": count, "seen_share": percent}
    return make_table("Accuracy under the published protocol", gap, formats, titles)


def issues_table(issues: pd.DataFrame) -> Table:
    """The conflicting labels."""
    return make_table("Labels that networks dispute", issues, {"confidence": share})


def search_chart(name: str, table: pd.DataFrame, search: Search) -> Chart:
    """The heat map of a search, or the bars of an ablation."""
    if search.vary == "one-by-one":
        words = "; ".join(describe_changes(table).splitlines())
        return Chart(f"Search {name}", words, change_bars(table))
    grid = list(search.grid)
    done = table["val_score"].notna()
    words = f"{done.sum()} of {len(table)} settings are finished"
    if done.any():
        best = table.nlargest(1, "val_score").iloc[0]
        setting = ", ".join(f"{key.replace('_', ' ')} {label(best[key])}" for key in grid)
        words += f"; best: {setting}, {best['val_score']:.4f}"
    return Chart(f"Search {name}", words, search_map(table, grid))
