"""The charts of the report, the SVG and PNG files and the DVC templates.

Each function names the columns that its rows must have. `toNumber` in expressions serves DVC,
which passes all values as text and missing ones as empty text.
"""

import math
from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from stages.core.sections import TASKS
from stages.reporting.theme import CATEGORIES, FREE, ROWS, tooltip, zoom

KIND_COLOURS = {"published": "#d55e00", "rerun": "#e69f00", "honest": "#0072b2"}
KIND_SHAPES = {"published": "diamond", "rerun": "square", "honest": "circle"}
GREY, BETTER, WORSE = "#888888", "#2a7f62", "#b5482a"
DASHES = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2]]
CURVES = [
    *("score", *(f"{task} accuracy" for task in TASKS)),
    *("loss", *(f"{task} loss" for task in TASKS)),
]
BELOW = alt.Legend(orient="bottom")  # at the side it would take a phone's width
_LIST_BELOW = alt.Legend(orient="bottom", columns=1, labelLimit=320)
_KNOWN = "isValid(toNumber(datum.{}))"


def _layered(*charts: alt.Chart) -> alt.LayerChart:
    return alt.LayerChart(data=ROWS, layer=list(charts))


def class_bars(task: str, title: str) -> alt.Chart:
    """Images of each class. Columns <task>, images, share."""
    classes = alt.X(f"{task}:N", sort=None, title=title, axis=alt.Axis(labelAngle=0))
    tips = tooltip(task, "images", shares=["share"])
    return alt.Chart(ROWS).mark_bar().encode(x=classes, y="images:Q", tooltip=tips)


def age_histogram() -> alt.Chart:
    """Images by year of age, stacked by gender. Columns years, gender, images."""
    bars = alt.Chart(ROWS).mark_bar(clip=True, binSpacing=0).add_params(zoom("x"))
    return bars.encode(
        x=alt.X("years:Q", title="age in years", scale=FREE),
        y=alt.Y("images:Q", stack="zero"),
        color=alt.Color("gender:N", sort=None, legend=BELOW),
        tooltip=tooltip("years", "gender", "images"),
    )


def count_map(x: str, y: str) -> alt.LayerChart:
    """Images of each pair of classes. Columns <x>, <y>, images."""
    text, tips = alt.Text("images:Q", format=","), tooltip(y, x, "images")
    return _layered(*_heat_map(x, y, "images", text, tips)).transform_joinaggregate(
        low="min(images)", high="max(images)"
    )


def confusion_matrix() -> alt.LayerChart:
    """Columns actual, predicted, images, share (of the actual class, in [0, 1])."""
    text = alt.Text("images:Q", format=",")
    tips = tooltip("actual", "predicted", "images", shares=["share"])
    return _layered(*_heat_map("predicted", "actual", "share", text, tips, unit=True))


def search_map(up: str, right: str) -> alt.LayerChart:
    """Validation score over the grid of a search.

    Columns <up>, <right>, experiment, state, val_score, mark and text (written in the cell). The
    frame of the best setting is solid, that of the published one dashed.
    """
    tips = tooltip("experiment", "state", "mark", shares=["val_score"])
    cells, text = _heat_map(right, up, "score", alt.Text("text:N"), tips, upwards=True)
    frames = [
        alt.Chart()
        .transform_filter(f"indexof(datum.mark, '{mark}') >= 0")
        .mark_rect(filled=False, stroke=colour, strokeWidth=3, strokeDash=dash)
        .encode(x=cells.encoding.x, y=cells.encoding.y)
        for mark, colour, dash in (("best", WORSE, [1, 0]), ("published", GREY, [5, 4]))
    ]
    return (
        _layered(cells, *frames, text)
        .transform_calculate(score="toNumber(datum.val_score)")
        # Without groupby Vega-Lite 5 fails in the panels of DVC.
        .transform_joinaggregate(low="min(score)", high="max(score)", groupby=[])
    )


def _heat_map(
    x: str,
    y: str,
    colour: str,
    text: alt.Text,
    tips: list[alt.Tooltip],
    unit: bool = False,
    upwards: bool = False,
) -> tuple[alt.Chart, alt.Chart]:
    """A rectangle and a text for each pair of classes; only the text where no colour is known.

    The colours span [0, 1] (`unit`), or what the columns `low` and `high` say.
    """
    axis = alt.Axis(labelAngle=0, labelOverlap=False, labelLimit=60)
    base = alt.Chart().encode(
        x=alt.X(f"{x}:N", sort=None, title=x.replace("_", " "), axis=axis),
        y=alt.Y(f"{y}:N", sort=None, title=y.replace("_", " "), scale=alt.Scale(reverse=upwards)),
        tooltip=tips,
    )
    scale = alt.Scale(domain=[0, 1]) if unit else alt.Scale(zero=False)
    known = _KNOWN.format(colour)
    middle = "0.5" if unit else "(datum.low + datum.high) / 2"
    ink = {
        "condition": [
            {"test": f"!{known}", "value": GREY},
            {"test": f"datum.{colour} > {middle}", "value": "black"},
        ],
        "value": "white",
    }
    fill = alt.Color(f"{colour}:Q", legend=None, scale=scale)
    # A filter would change the order of the classes.
    fill_known = alt.condition(f"!{known}", alt.value("transparent"), fill)
    return base.mark_rect().encode(color=fill_known), base.mark_text().encode(text=text, color=ink)


def split_shares() -> alt.Chart:
    """Share of each class in each split. Columns class, split, images, share (of the split)."""
    bars = alt.Chart(ROWS).mark_bar()
    return bars.encode(
        x=alt.X("class:N", sort=None, title=None, axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("split:N", sort=None),
        y=alt.Y("share:Q", title="share of the split", axis=alt.Axis(format="%")),
        color=alt.Color("split:N", sort=None, legend=BELOW),
        tooltip=tooltip("class", "split", "images", shares=["share"]),
    )


def learning_curves(title: str | None) -> alt.Chart:
    """A figure over the epochs. Columns variant, split (train or val), epoch, value."""
    dashes = alt.Scale(domain=["val", "train"], range=[[1, 0], [3, 3]])
    lines = alt.Chart(ROWS).mark_line(clip=True, point=alt.OverlayMarkDef(size=14))
    return lines.encode(
        x=alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1), scale=FREE),
        y=alt.Y("value:Q", title=title, scale=FREE),
        color=alt.Color("variant:N", sort=None, legend=_LIST_BELOW),
        strokeDash=alt.StrokeDash("split:N", title="images", scale=dashes, legend=BELOW),
        tooltip=tooltip("variant", "split", "epoch", shares=["value"]),
    )


def interactive_curves(title: str, epochs: int, legend: bool) -> alt.LayerChart:
    """Learning curves from 0 that zoom; a click in the legend emphasises a variant, Shift another.

    Where several charts stand together, the first has the legend of all.
    """
    chosen = alt.selection_point(name="of", fields=["variant"], bind="legend")
    # With few epochs Vega would set ticks between them.
    ticks = alt.Axis(tickMinStep=1, tickCount=min(6, max(1, epochs - 1)))
    curves = learning_curves(title).properties(name="lines", data=alt.Undefined)
    curves = curves.add_params(zoom("x", "y"), chosen).encode(
        x=alt.X("epoch:Q", axis=ticks, scale=FREE),
        y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=True, nice=False)),
        opacity=alt.condition(chosen, alt.value(1), alt.value(0.08)),
    )
    if not legend:
        curves.encoding.color.legend = curves.encoding.strokeDash.legend = None
    return _layered(curves)


def accuracy_over_cost() -> alt.Chart:
    """Validation accuracy over training cost. Columns variant, epoch, tflop (10^12), accuracy."""
    colours = len(CATEGORIES["light"])
    # Dashes change where the colours repeat.
    dashes = alt.Scale(range=[dash for dash in DASHES for _ in range(colours)])
    tips = [*tooltip("variant", "epoch"), alt.Tooltip("tflop:Q", format=".3s")]
    log = alt.Scale(type="log", nice=False, padding=8)
    title, ticks = "training, 10¹² operations", alt.Axis(tickCount=4)
    lines = alt.Chart(ROWS).mark_line(interpolate="step-after", point=alt.OverlayMarkDef(size=14))
    return lines.encode(
        x=alt.X("tflop:Q", title=title, axis=ticks, scale=log),
        y=alt.Y("accuracy:Q", title="accuracy, validation", scale=alt.Scale(zero=False)),
        color=alt.Color("variant:N", sort=None, title=None),
        strokeDash=alt.StrokeDash("variant:N", sort=None, title=None, scale=dashes),
        tooltip=[*tips, *tooltip(shares=["accuracy"])],
    )


def accuracies(
    kinds: Sequence[str],
    legend_columns: int = 2,
    ceiling: bool = False,
    scale: alt.Scale = FREE,
) -> alt.LayerChart:
    """Accuracies of each variant with intervals; a grey line joins the kinds.

    With `ceiling` a dashed line is the one that wrong labels set. Columns variant, kind (one of
    `kinds`), accuracy, low, high (empty without an interval), ceiling (the same in all rows).
    """
    colours = alt.Scale(domain=kinds, range=[KIND_COLOURS[kind] for kind in kinds])
    shapes = alt.Scale(domain=kinds, range=[KIND_SHAPES[kind] for kind in kinds])
    legend = alt.Legend(orient="bottom", columns=legend_columns) if len(kinds) > 1 else None
    colour = alt.Color("kind:N", title=None, scale=colours, legend=legend)
    shape = alt.Shape("kind:N", title=None, scale=shapes, legend=legend)
    tips = tooltip("variant", "kind", shares=["accuracy", "low", "high"])
    base = alt.Chart().encode(
        y=alt.Y("variant:N", sort=None, title=None, axis=alt.Axis(labelLimit=260))
    )
    joined = base.mark_rule(color=GREY, opacity=0.5, clip=True)
    x = _ACCURACY.copy()
    x.scale = scale
    interval, points = _intervals_and_points(base.encode(color=colour, tooltip=tips), x)
    limit = alt.Chart().transform_filter(_KNOWN.format("ceiling"))
    limit = limit.mark_rule(color=WORSE, strokeDash=[5, 4], clip=True, aria=False)
    return _layered(
        joined.encode(x="min(accuracy):Q", x2="max(accuracy):Q"),
        *[limit.encode(x="mean(ceiling):Q")] * ceiling,
        interval,
        points.encode(shape=shape),
    )


def differences(equivalence: float) -> alt.LayerChart:
    """Differences of contrasts with their intervals; the band is what counts as equivalent.

    Columns contrast, difference, low, high, seeds_a, seeds_b, verdict.
    """
    tips = tooltip(
        "contrast", "seeds_a", "seeds_b", "verdict", shares=["difference", "low", "high"]
    )
    y = alt.Y("contrast:N", sort=None, title=None, axis=alt.Axis(labelLimit=260))
    base = alt.Chart().encode(y=y, tooltip=tips)
    axis = alt.Axis(format="+.2f")
    x = alt.X("difference:Q", title="difference in accuracy", axis=axis, scale=FREE)
    interval, points = _intervals_and_points(base, x)
    band = alt.Chart().mark_rect(color=GREY, opacity=0.03, clip=True, aria=False)
    zero = alt.Chart().mark_rule(color=GREY, strokeDash=[5, 4], clip=True, aria=False)
    return _layered(
        band.encode(x=alt.datum(-equivalence), x2=alt.datum(equivalence)),
        zero.encode(x=alt.datum(0.0)),
        interval,
        points,
    )


def subgroup_accuracies() -> alt.LayerChart:
    """Accuracy of each group of one trait with its interval; points of small groups are hollow.

    Columns by (traits), group, images, accuracy, low, high, small.
    """
    small = "lower(toString(datum.small)) === 'true'"
    legend = alt.Legend(orient="bottom", symbolFillColor="transparent", symbolType="circle")
    base = alt.Chart().encode(
        y=alt.Y("group:N", sort=None, title=None),
        stroke=alt.Stroke("by:N", sort=None, title=None, legend=legend),
        tooltip=tooltip("by", "group", "images", "small", shares=["accuracy", "low", "high"]),
    )
    interval, points = _intervals_and_points(base, _ACCURACY)
    points = points.encode(
        fill=alt.Fill("by:N", sort=None, legend=None),
        fillOpacity=alt.condition(small, alt.value(0), alt.value(1)),
    )
    single = f"indexof(datum.by, ' ') < 0 && {_KNOWN.format('accuracy')}"
    return _layered(interval, points).transform_filter(single)


def score_intervals() -> alt.LayerChart:
    """Each score with its interval. Columns metric, value, low, high."""
    base = alt.Chart().encode(
        y=alt.Y("metric:N", sort=None, title="score"),
        color=alt.value(CATEGORIES["light"][0]),
        tooltip=tooltip("metric", shares=["value", "low", "high"]),
    )
    unit = alt.Scale(domain=[0, 1])
    value = alt.X("value:Q", title="value with its interval", scale=unit)
    interval, points = _intervals_and_points(base, value)
    return _layered(points, interval)  # the first layer gives the order of the scores


_ACCURACY = alt.X("accuracy:Q", title="accuracy", axis=alt.Axis(tickCount=5), scale=FREE)


def _intervals_and_points(base: alt.Chart, x: alt.X) -> tuple[alt.Chart, alt.Chart]:
    """A line from `low` to `high` where these are known, and a point, which zooms along x."""
    interval = base.transform_filter(_KNOWN.format("low")).mark_rule(strokeWidth=2, clip=True)
    points = base.mark_point(filled=True, size=70, opacity=1, clip=True).encode(x=x)
    return (
        interval.encode(x="low:Q", x2="high:Q"),
        points.add_params(zoom("x")).properties(name="points"),
    )


def up_to_one(values: pd.DataFrame) -> alt.Scale:
    """A scale for shares that charts side by side have in common: to 1, from below all values."""
    lowest = float(np.nanmin(values.to_numpy(float)))
    scale = FREE.copy()
    scale.domain = [max(0.0, math.floor(10 * lowest - 0.1) / 10), 1]
    return scale


def costs_and_scores(scale: alt.Scale) -> alt.LayerChart:
    """Combined score over arithmetic. Columns variant, gflops, parameters, score, low, high."""
    log = alt.Scale(type="log", padding=10)
    base = alt.Chart().encode(
        x=alt.X("gflops:Q", title="GFLOPs per image", scale=log),
        color=alt.Color("variant:N", sort=None, title=None, legend=_LIST_BELOW),
        tooltip=tooltip("variant", "parameters", "gflops", shares=["score", "low", "high"]),
    )
    points = base.mark_point(filled=True, size=80, opacity=1, clip=True)
    points = points.encode(y=alt.Y("score:Q", title="combined score", scale=scale))
    return _layered(
        base.mark_rule(clip=True).encode(y="low:Q", y2="high:Q"),
        points.add_params(zoom("x", "y")).properties(name="points"),
    )


def reliability_diagram() -> alt.LayerChart:
    """Accuracy over confidence. Columns scaling, bin, images, confidence, accuracy."""
    unit = alt.Scale(domain=[0, 1])
    base = alt.Chart().encode(
        x=alt.X("confidence:Q", title="confidence", scale=unit),
        y=alt.Y("accuracy:Q", title="accuracy", scale=unit),
        color=alt.Color("scaling:N", sort=None, title="temperature scaling", legend=BELOW),
    )
    diagonal = (
        alt.Chart()
        .transform_aggregate(rows="count()")  # one line, not one for each row
        .mark_rule(color=GREY, strokeDash=[4, 4], aria=False)
        .encode(x=alt.datum(0), x2=alt.datum(1), y=alt.datum(0), y2=alt.datum(1))
    )
    size = alt.Size("images:Q", legend=None, scale=alt.Scale(range=[15, 250]))
    tips = tooltip("scaling", "bin", "images", shares=["confidence", "accuracy"])
    return _layered(
        diagonal,
        base.mark_line(strokeWidth=1.5),
        base.mark_point(filled=True, opacity=0.85).encode(size=size, tooltip=tips),
    )


def change_bars() -> alt.LayerChart:
    """The effect of each change of an ablation.

    Columns change, state, val_score, difference, and low and high, between which a line is drawn.
    """
    space = alt.Scale(padding=70)  # for the texts beside the bars
    ticks = alt.Axis(tickCount=6)
    base = alt.Chart().encode(
        x=alt.X("difference:Q", title="difference in score", axis=ticks, scale=space),
        y=alt.Y("change:N", sort=None, title=None, axis=alt.Axis(labelLimit=260)),
        tooltip=tooltip("change", "state", shares=["val_score", "difference"]),
    )
    colour = alt.condition("datum.difference > 0", alt.value(BETTER), alt.value(WORSE))
    bars = base.mark_bar(clip=True).encode(color=colour)
    known = _KNOWN.format("difference")
    below = "datum.difference < 0 ? {} : {}".format
    finished = base.transform_filter(known)
    label = finished.transform_calculate(end=below("datum.low", "datum.high")).mark_text(
        align=alt.ExprRef(below("'right'", "'left'")),
        dx=alt.ExprRef(below(-4, 4)),
        clip=True,
        color=GREY,
    )
    absent = base.transform_filter(f"!{known}").mark_text(align="left", dx=4, color=GREY)
    return _layered(
        bars.add_params(zoom("x")).properties(name="bars"),
        finished.mark_rule(clip=True).encode(x="low:Q", x2="high:Q"),
        label.encode(x="end:Q", text=alt.Text("difference:Q", format="+.4f")),
        absent.encode(x=alt.datum(0), text="state:N"),
    )
