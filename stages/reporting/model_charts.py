"""The report's charts of one model and of one search, as Vega-Lite specifications."""

from collections.abc import Sequence

import pandas as pd

from stages.reporting.vega import (
    BELOW,
    FREE,
    ROW,
    Spec,
    chart,
    heat_map,
    tooltip,
    zoom,
)
from stages.tuning.searches import label


def confusion_matrix(table: pd.DataFrame) -> Spec:
    """Of one task. Columns actual, predicted, images, share."""
    tips = tooltip("actual", "predicted", "images", shares=["share"])
    return heat_map(table, "predicted", "actual", "share", "images", tips, [0, 1])


def reliability_diagram(table: pd.DataFrame) -> Spec:
    """Of one task. Columns scaling, bin, images, confidence, accuracy."""
    unit = {"domain": [0, 1]}
    return chart(
        table,
        230,
        layer=[
            {
                "data": {"values": [{"ideal": 0}, {"ideal": 1}]},
                "mark": {"type": "line", "color": "#888888", "strokeDash": [4, 4]},
                "encoding": {
                    "x": {"field": "ideal", "type": "quantitative"},
                    "y": {"field": "ideal", "type": "quantitative"},
                },
            },
            {
                "mark": {"type": "line", "point": False, "strokeWidth": 1.5},
                "encoding": {
                    "x": {"field": "confidence", "type": "quantitative", "scale": unit},
                    "y": {"field": "accuracy", "type": "quantitative", "scale": unit},
                    "color": {"field": "scaling", "type": "nominal", "sort": None},
                },
            },
            {
                "mark": {"type": "point", "filled": True, "opacity": 0.85},
                "encoding": {
                    "x": {"field": "confidence", "type": "quantitative", "title": "confidence"},
                    "y": {"field": "accuracy", "type": "quantitative", "title": "accuracy"},
                    "color": {
                        "field": "scaling",
                        "type": "nominal",
                        "sort": None,
                        "title": "temperature scaling",
                        "legend": BELOW,
                    },
                    "size": {
                        "field": "images",
                        "type": "quantitative",
                        "legend": None,
                        "scale": {"range": [15, 250]},
                    },
                    "tooltip": tooltip(
                        "scaling", "bin", "images", shares=["confidence", "accuracy"]
                    ),
                },
            },
        ],
    )


def subgroup_accuracies(table: pd.DataFrame) -> Spec:
    """Of one task, by one trait each; all rows stay in the values, small cells are hollow.

    Columns by, group, images, accuracy, low, high, small.
    """
    groups = table[~table["by"].str.contains(" ")]
    tips = tooltip("by", "group", "images", "small", shares=["accuracy", "low", "high"])
    return chart(
        table,
        ROW * len(groups),
        ["accuracy"],
        transform=[{"filter": "indexof(datum.by, ' ') < 0 && isValid(datum.accuracy)"}],
        encoding={
            "y": {
                "field": "group",
                "type": "nominal",
                "sort": groups["group"].tolist(),
                "title": None,
            },
            "color": {
                "field": "by",
                "type": "nominal",
                "title": None,
                "sort": None,
                "legend": BELOW | {"symbolFillColor": "transparent", "symbolType": "circle"},
            },
            "tooltip": tips,
        },
        layer=[
            {
                "mark": {"type": "rule", "clip": True, "strokeWidth": 2},
                "encoding": {
                    "x": {"field": "low", "type": "quantitative"},
                    "x2": {"field": "high"},
                },
            },
            {
                "params": [zoom("x")],
                "mark": {"type": "point", "size": 70, "clip": True, "opacity": 1},
                "encoding": {
                    "x": {
                        "field": "accuracy",
                        "type": "quantitative",
                        "title": "accuracy",
                        "axis": {"tickCount": 6},
                        "scale": FREE,
                    },
                    "fillOpacity": {"condition": {"test": "datum.small", "value": 0}, "value": 1},
                    "fill": {"field": "by", "type": "nominal", "sort": None, "legend": None},
                },
            },
        ],
    )


def search_map(table: pd.DataFrame, grid: Sequence[str]) -> Spec:
    """Validation accuracy over a search's grid: its first param upwards, its second to the right.

    Args:
        table: as `tuning.tabulate_search` gives it.
        grid: the params, one or two.
    """
    up, right = (grid[0], grid[1]) if len(grid) > 1 else ("search", grid[0])
    shown = table[["experiment", "state", "val_score", "mark"]].assign(
        **{
            right: table[right].map(label),
            up: table[up].map(label) if len(grid) > 1 else "",
            "text": [
                _told(state, score, mark)
                for state, score, mark in zip(
                    table["state"], table["val_score"], table["mark"], strict=True
                )
            ],
        }
    )
    scores = table["val_score"].dropna()
    domain = (float(scores.min()), float(scores.max())) if len(scores) else (0.0, 1.0)
    tips = tooltip("experiment", "state", "mark", shares=["val_score"])
    upwards = list(dict.fromkeys(shown[up]))[::-1]
    return heat_map(shown, right, up, "val_score", "text", tips, domain, upwards)


def change_bars(table: pd.DataFrame) -> Spec:
    """What each change is worth, a bar each in the order of the table.

    Args:
        table: as `ablation.tabulate_changes` gives it.
    """
    shown = table.drop(index=table.index[0])[["change", "state", "val_score", "difference"]]
    return chart(
        shown,
        ROW * len(shown),
        ["difference"],
        params=[zoom("x")],
        mark={"type": "bar", "clip": True},
        encoding={
            "y": {
                "field": "change",
                "type": "nominal",
                "sort": shown["change"].tolist(),
                "title": None,
            },
            "x": {
                "field": "difference",
                "type": "quantitative",
                "title": "difference of the validation score",
                "axis": {"tickCount": 6},
            },
            "tooltip": tooltip("change", "state", shares=["val_score", "difference"]),
        },
    )


def _told(state: str, score: float, mark: str) -> str:
    """What stands in a setting's cell: its score with its marks, or why it has none."""
    if pd.isna(score):
        return state
    return f"{score:.3f}" + "".join(sign for word, sign in _MARKS.items() if word in mark)


_MARKS = {"best": " ★", "published": " ◆"}
