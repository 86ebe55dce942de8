"""What the report's charts have in common, as specifications of Vega-Lite.

They bear colours by role only (https://vega.github.io/vega-lite/docs/config.html): the page gives
the palettes, for light and for dark. A chart fills the width that it finds. `usermeta.zoom` names
the fields whose axes can be zoomed and panned, that of the horizontal axis first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

Spec = dict[str, Any]

ZOOM = "zoom"  # name of the selection; the page's buttons set its signals, zoom_<field>

# Panning with a finger would take the page's scrolling away, so it needs a mouse, and the
# wheel Ctrl (or two fingers apart on a pad); with Shift, browsers scroll sideways.
_MOUSE = "[pointerdown[event.pointerType === 'mouse'], window:pointerup] > window:pointermove!"

_WHEEL = "wheel![event.ctrlKey || event.metaKey]"

ROW = 26  # height of a line of a chart with one line for each run or group, pixels
CELL = 36  # height of a row of a heat map, pixels
# A scale that need not begin at 0, with room for the points at its ends, in pixels.
FREE = {"zero": False, "nice": False, "padding": 8}
BELOW = {"orient": "bottom"}  # of a legend: beside the chart it would take a telephone's width


@dataclass(frozen=True)
class Chart:
    """A chart with its title, and what it shows in words for those who do not see it."""

    title: str
    description: str
    spec: Spec


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame's rows as JSON values: missing ones null, categories as text."""
    return [
        {str(key): _plain(value) for key, value in row.items()}
        for row in frame.astype(object).to_dict(orient="records")
    ]


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if hasattr(value, "item") else value


def chart(values: pd.DataFrame, height: int, zoomed: Sequence[str] = (), **parts: Any) -> Spec:
    """A chart.

    Args:
        values: a row for each datum; all are listed beside the chart.
        height: in pixels, without axis and legend.
        zoomed: fields whose axes can be zoomed, that of the horizontal one first.
        parts: the rest of the specification.
    """
    return {
        "data": {"values": records(values)},
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "usermeta": {"zoom": list(zoomed)},
        **parts,
    }


def zoom(*channels: str) -> Spec:
    """The selection that zooms, for a layer that has the channels `x` or `y`."""
    interval = {"type": "interval", "encodings": channels, "translate": _MOUSE, "zoom": _WHEEL}
    return {"name": ZOOM, "select": interval, "bind": "scales"}


def tooltip(*fields: str, shares: Sequence[str] = ()) -> list[Spec]:
    """What is told of a datum under the pointer; shares with four digits."""
    return [{"field": field, "title": field.replace("_", " ")} for field in fields] + [
        {"field": field, "title": field.replace("_", " "), "format": ".4f"} for field in shares
    ]


def heat_map(
    table: pd.DataFrame,
    x: str,
    y: str,
    colour: str,
    text: str,
    tips: list[Spec],
    domain: Sequence[float],
    order: Sequence[str] | None = None,
) -> Spec:
    """A rectangle for each pair of classes, with a text that is white where it is dark.

    Args:
        table: a row for each rectangle; where the colour is missing there is only the text.
        x: its field to the right.
        y: its field downwards.
        colour: its field that gives the colour.
        text: its field that is written.
        tips: the tooltip.
        domain: the values of the brightest and of the darkest colour.
        order: of the rows; None: as in the table.
    """
    low, high = domain
    written = {"field": text, "type": "nominal"}
    if pd.api.types.is_numeric_dtype(table[text]):
        written |= {"type": "quantitative", "format": ","}
    dark = {"test": f"datum.{colour} > {low + 0.55 * (high - low):g}", "value": "white"}
    faint = {"test": f"!isValid(datum.{colour})", "value": "#888888"}
    scale = {"domain": [low, high], "range": "heatmap"}
    return chart(
        table,
        CELL * table[y].nunique(),
        encoding={
            "x": {
                "field": x,
                "type": "nominal",
                "sort": None,
                "title": x.replace("_", " "),
                "axis": {"labelAngle": 0, "labelOverlap": False, "labelLimit": 60},
            },
            "y": {
                "field": y,
                "type": "nominal",
                "sort": order,
                "title": y.replace("_", " "),
            },
            "tooltip": tips,
        },
        layer=[
            {
                "mark": "rect",
                "transform": [{"filter": f"isValid(datum.{colour})"}],
                "encoding": {
                    "color": {
                        "field": colour,
                        "type": "quantitative",
                        "legend": None,
                        "scale": scale,
                    }
                },
            },
            {
                "mark": "text",
                "encoding": {
                    "text": written,
                    "color": {"condition": [faint, dark], "value": "black"},
                },
            },
        ],
    )
