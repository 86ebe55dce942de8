"""The report's tables and charts of all runs side by side."""

from collections.abc import Mapping

import pandas as pd

from stages.comparison.table import KINDS
from stages.core.variants import Search
from stages.evaluation.scores import COMBINED
from stages.reporting import charts
from stages.reporting.comparison_charts import accuracy_rows
from stages.reporting.comparison_tables import comparison_table
from stages.reporting.results import Results
from stages.reporting.search_pages import describe_search, search_chart
from stages.reporting.tables import Cell, Table, count, crossed, make_table, share, with_interval
from stages.reporting.theme import ROW, Figure, make_figure


def curve_figures(results: Results) -> list[Figure]:
    """A chart for each figure, with every run."""
    curves = results.curves[results.curves["variant"].isin(list(results.runs))]
    figures: list[Figure] = []
    for name in charts.CURVES:
        table = curves[curves["figure"] == name]
        if table.empty:
            continue
        val = table[table["split"] == "val"]
        best = val.loc[val["value"].idxmin() if "loss" in name else val["value"].idxmax()]
        where = f"{best['variant']}, epoch {best['epoch']}"
        words = f"Best on validation images: {best['value']:.3f}, {where}"
        rows = table[["variant", "split", "epoch", "value"]]
        chart = charts.interactive_curves(name, int(table["epoch"].max()), legend=not figures)
        figures.append(make_figure(name.capitalize(), words, chart, rows, 230))
    return figures


def accuracy_table(results: Results) -> Table:
    """The accuracies of all runs side by side, and their combined scores."""
    table = comparison_table(results.comparison, "accuracy")
    runs = [results.runs.get(variant) for variant in results.comparison["variant"]]
    unknown = (float("nan"),) * 3
    scores = [with_interval(*(r.score(COMBINED, "score") if r else unknown)) for r in runs]
    rows = [[*row, score] for row, score in zip(table.rows, scores, strict=True)]
    return crossed(table.caption, "variant", [*table.header[1:], "combined score"], rows)


def accuracy_figures(results: Results) -> list[Figure]:
    """A chart for each task: published, rerun and honest accuracies, these with intervals."""
    figures = []
    table = accuracy_rows(results.comparison, results.label_noise)
    scale = charts.up_to_one(table[["accuracy", "low"]])
    for task, rows in table.groupby("task", sort=False):
        best = rows[rows["kind"] == "honest"].nlargest(1, "accuracy").iloc[0]
        words = f"The highest honest accuracy is {best['accuracy']:.3f}, of {best['variant']}"
        shown = [kind for kind in KINDS if kind in set(rows["kind"])]
        title = f"Accuracy{' by protocol' * (len(shown) > 1)}, {task}"
        known = bool(rows["ceiling"].notna().any())
        chart = charts.accuracies(shown, ceiling=known, scale=scale)
        height = ROW * rows["variant"].nunique()
        figures.append(make_figure(title, words, chart, rows.drop(columns="task"), height))
    return figures


def contrast_figures(contrasts: pd.DataFrame, equivalence: float) -> list[Figure]:
    """A chart for each task: the differences of contrasts with their intervals."""
    figures = []
    for task, rows in contrasts.groupby("task", sort=False):
        decided = rows["verdict"].isin(["better", "worse", "equivalent"]).sum()
        words = f"{decided} of {len(rows)} contrasts are decided"
        chart, height = charts.differences(equivalence), ROW * len(rows)
        figures.append(make_figure(f"Differences in {task}", words, chart, rows, height))
    return figures


def tests_table(tests: pd.DataFrame, confidence: float) -> Table:
    """The paired tests of all runs, with intervals of this confidence."""
    rows = tests.drop(columns=["low", "high"]).astype({"difference": object})
    rows["difference"] = [
        Cell(f"{value:+.3f}", float(value), f"[{low:+.3f}, {high:+.3f}]")
        for value, low, high in tests[["difference", "low", "high"]].to_numpy(float)
    ]
    formats = dict.fromkeys(["p_bootstrap", "p_mcnemar", "p_holm"], _p_value)
    titles = {"variant_a": "first", "variant_b": "second"}
    titles |= {"p_mcnemar": "p McNemar", "p_holm": "p Holm"}
    caption = (
        f"Paired tests: accuracy of the first minus that of the second, {confidence:.0%} intervals"
    )
    return make_table(caption, rows, {"difference": share, **formats}, titles)


ODDS = ["odds_difference", "odds_class"]


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else share(value)


def costs_table(results: Results) -> Table:
    """Parameters, size and arithmetic of each variant, and its training time if wanted."""
    titles = {"trainable_parameters": "that learn", "megabytes": "MB", "gflops": "GFLOPs per image"}
    titles |= {"seconds": "training, s", "images_per_second": "training, images/s"}
    formats = {
        **dict.fromkeys(["parameters", "trainable_parameters"], count),
        "megabytes": "{:,.1f}".format,
        "gflops": "{:,.3f}".format,
        "epochs": count,
        "seconds": "{:,.0f}".format,
        "images_per_second": "{:,.1f}".format,
    }
    runs = results.runs.items()
    rows = pd.DataFrame(
        [{"variant": name, **run.costs, "epochs": run.training["epochs"]} for name, run in runs]
    )
    if results.timings is not None:
        rows = rows.merge(results.timings, on="variant", how="left")
    rows = rows[["variant", *(name for name in formats if name in rows)]]
    return make_table("What the variants cost", rows, formats, titles)


def costs_figure(results: Results) -> Figure:
    """The combined score over the arithmetic."""
    rows = [
        (v, run.costs["gflops"], run.costs["parameters"], *run.score(COMBINED, "score"))
        for v, run in results.runs.items()
    ]
    table = pd.DataFrame(rows, columns=["variant", "gflops", "parameters", "score", "low", "high"])
    least = table.loc[table["gflops"].idxmin()]
    words = f"{least['variant']} needs the least: {least['gflops']:.3f} GFLOPs per image"
    chart = charts.costs_and_scores(charts.up_to_one(table[["score", "low"]]))
    return make_figure("Combined score and arithmetic", words, chart, table, 260)


def fairness_table(results: Results) -> Table:
    """Gaps between the subgroups of every variant, where two groups can be compared."""
    tables = {variant: run.tables["fairness"] for variant, run in results.runs.items()}
    table = pd.concat(tables, names=["variant"]).reset_index("variant")
    table = table[table[["gap", "odds_difference"]].notna().any(axis=1)]
    table = table.astype({"worst": object, "best": object})
    for index, row in table.iterrows():
        if pd.notna(row["gap"]):
            interval = (
                f"{row['worst_accuracy']:.3f} [{row['worst_low']:.3f}, {row['worst_high']:.3f}]"
            )
            table.at[index, "worst"] = Cell(row["worst"], aside=interval)
            table.at[index, "best"] = Cell(row["best"], aside=share(row["best_accuracy"]))
    table = table[["variant", "task", "by", "groups", "worst", "best", "gap", *ODDS]]
    numbers = dict.fromkeys(["gap", "odds_difference"], share)
    titles = {"groups": "groups compared", "odds_difference": "equalised odds difference"}
    titles["odds_class"] = "of the class"
    return make_table("Gaps between subgroups", table, {**numbers, "groups": count}, titles)


def search_figures(
    tables: Mapping[str, pd.DataFrame], searches: Mapping[str, Search]
) -> list[Figure]:
    """The heat map of each search with a table, or the bars of an ablation."""
    return [
        make_figure(
            f"Search {name}",
            "; ".join(describe_search(table, searches[name])),
            *search_chart(table, searches[name]),
        )
        for name, table in tables.items()
    ]
