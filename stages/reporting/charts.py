"""The report's charts of the data and of all runs side by side, as Vega-Lite specifications."""

import pandas as pd

from stages.comparison.table import COLOURS, KINDS
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


def bars(counts: pd.DataFrame, field: str, title: str) -> Spec:
    """A bar for each class. `counts`: columns <field>, images, share."""
    return chart(
        counts,
        170,
        mark={"type": "bar"},
        encoding={
            "x": {
                "field": field,
                "type": "nominal",
                "sort": None,
                "title": title,
                "axis": {"labelAngle": 0},
            },
            "y": {"field": "images", "type": "quantitative", "title": "images"},
            "tooltip": tooltip(field, "images", shares=["share"]),
        },
    )


def age_histogram(counts: pd.DataFrame) -> Spec:
    """Images by year of age, stacked by gender. Columns years, gender, images."""
    return chart(
        counts,
        230,
        ["years"],
        params=[zoom("x")],
        mark={"type": "bar", "clip": True, "binSpacing": 0},
        encoding={
            "x": {
                "field": "years",
                "type": "quantitative",
                "title": "age in years",
                "scale": FREE,
            },
            "y": {"field": "images", "type": "quantitative", "title": "images", "stack": "zero"},
            "color": {"field": "gender", "type": "nominal", "sort": None, "legend": BELOW},
            "tooltip": tooltip("years", "gender", "images"),
        },
    )


def cells(counts: pd.DataFrame, x: str, y: str) -> Spec:
    """A heat map of images. Columns <x>, <y>, images."""
    top = float(counts["images"].max() or 1)
    return heat_map(counts, x, y, "images", "images", tooltip(y, x, "images"), [0, top])


def split_shares(table: pd.DataFrame) -> Spec:
    """Whether the splits are alike. Columns class, split, images, share (of the split)."""
    return chart(
        table,
        170,
        mark="bar",
        encoding={
            "x": {
                "field": "class",
                "type": "nominal",
                "sort": None,
                "title": None,
                "axis": {"labelAngle": 0},
            },
            "xOffset": {"field": "split", "sort": None},
            "y": {
                "field": "share",
                "type": "quantitative",
                "title": "share of the split",
                "axis": {"format": "%"},
            },
            "color": {"field": "split", "type": "nominal", "sort": None, "legend": BELOW},
            "tooltip": tooltip("class", "split", "images", shares=["share"]),
        },
    )


def curves(table: pd.DataFrame, title: str) -> Spec:
    """A figure over the epochs. Columns variant, side, epoch, value."""
    shown = {"param": "of", "empty": True}
    epochs = int(table["epoch"].max()) if len(table) else 1
    # No ticks between two epochs: Vega would set some where there are few.
    whole = {"tickMinStep": 1, "tickCount": min(6, max(1, epochs - 1))}
    return chart(
        table,
        230,
        ["epoch", "value"],
        params=[zoom("x", "y") | {"views": ["lines"]}, _by_legend("variant", "lines")],
        layer=[
            {
                "name": "lines",
                "mark": {"type": "line", "clip": True, "point": {"size": 14}},
                "encoding": {
                    "x": {
                        "field": "epoch",
                        "type": "quantitative",
                        "title": "epoch",
                        "axis": whole,
                        "scale": FREE,
                    },
                    "y": {
                        "field": "value",
                        "type": "quantitative",
                        "title": title,
                        "scale": FREE,
                    },
                    "color": {
                        "field": "variant",
                        "type": "nominal",
                        "sort": None,
                        "legend": {
                            "orient": "bottom",
                            "columns": 1,
                            "labelLimit": 320,
                            "title": "variant",
                        },
                    },
                    "strokeDash": {
                        "field": "side",
                        "type": "nominal",
                        "title": "images",
                        "scale": {"domain": ["val", "train"], "range": [[1, 0], [3, 3]]},
                        "legend": BELOW,
                    },
                    "opacity": {"condition": {**shown, "value": 1}, "value": 0.08},
                    "tooltip": tooltip("variant", "side", "epoch", shares=["value"]),
                },
            }
        ],
    )


def _by_legend(field: str, view: str) -> Spec:
    """Whatever is clicked in the legend stands out; Shift adds to it."""
    return {
        "name": "of",
        "select": {"type": "point", "fields": [field]},
        "bind": "legend",
        "views": [view],
    }


def accuracies(table: pd.DataFrame) -> Spec:
    """Accuracies of one task with intervals. Columns variant, kind, accuracy, low, high.

    kind: `published`, `rerun` or `honest`, told apart by shape and colour.
    """
    height = ROW * max(table["variant"].nunique(), 1)
    y = {
        "field": "variant",
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": {"labelLimit": 190},
    }
    kinds = [kind for kind in KINDS if kind in set(table["kind"])]
    return chart(
        table,
        height,
        ["accuracy"],
        encoding={
            "y": y,
            "tooltip": tooltip("variant", "kind", shares=["accuracy", "low", "high"]),
        },
        layer=[
            {
                "mark": {"type": "rule", "clip": True, "strokeWidth": 2},
                "transform": [{"filter": "isValid(datum.low)"}],
                "encoding": {
                    "x": {"field": "low", "type": "quantitative"},
                    "x2": {"field": "high"},
                    "color": {"field": "kind", "type": "nominal"},
                },
            },
            {
                "params": [zoom("x")],
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1, "clip": True},
                "encoding": {
                    "x": {
                        "field": "accuracy",
                        "type": "quantitative",
                        "title": "accuracy",
                        "axis": {"tickCount": 6},
                        "scale": FREE,
                    },
                    "color": {
                        "field": "kind",
                        "type": "nominal",
                        "title": None,
                        "scale": {"domain": kinds, "range": [COLOURS[kind] for kind in kinds]},
                        "legend": BELOW,
                    },
                    "shape": {
                        "field": "kind",
                        "type": "nominal",
                        "title": None,
                        "scale": {"domain": kinds, "range": [_SHAPES[kind] for kind in kinds]},
                        "legend": BELOW,
                    },
                },
            },
        ],
    )


_SHAPES = {"published": "diamond", "rerun": "square", "honest": "circle"}


def costs_and_scores(table: pd.DataFrame) -> Spec:
    """What accuracy costs. Columns variant, gflops, parameters, score, low, high."""
    return chart(
        table,
        260,
        ["gflops", "score"],
        params=[zoom("x", "y") | {"views": ["points"]}],
        layer=[
            {
                "mark": {"type": "rule", "clip": True},
                "encoding": {
                    "x": {"field": "gflops", "type": "quantitative"},
                    "y": {"field": "low", "type": "quantitative"},
                    "y2": {"field": "high"},
                    "color": {"field": "variant", "type": "nominal", "sort": None},
                },
            },
            {
                "name": "points",
                "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1, "clip": True},
                "encoding": {
                    "x": {
                        "field": "gflops",
                        "type": "quantitative",
                        "title": "GFLOPs per image",
                        "scale": {"type": "log", "padding": 10},
                    },
                    "y": {
                        "field": "score",
                        "type": "quantitative",
                        "title": "combined score",
                        "scale": FREE,
                    },
                    "color": {
                        "field": "variant",
                        "type": "nominal",
                        "sort": None,
                        "title": None,
                        "legend": {"orient": "bottom", "columns": 1, "labelLimit": 320},
                    },
                    "tooltip": tooltip(
                        "variant", "parameters", "gflops", shares=["score", "low", "high"]
                    ),
                },
            },
        ],
    )
