"""Common parts of all charts: colours, sizes, zoom, tooltips, and output as JSON, SVG or PNG.

Charts are built by Altair (https://altair-viz.github.io) without data; the rows are added when a
chart becomes a specification.
"""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import altair as alt
import pandas as pd
import vl_convert

from stages.core.files import atomic_write

Drawing = alt.Chart | alt.LayerChart | alt.FacetChart | alt.HConcatChart
Spec = dict[str, Any]
Figure = dict[str, Any]  # title, description (no full stop), spec

ROWS = alt.NamedData(name="rows")  # stands for the rows until `to_spec` puts them in
ROW, CELL = 26, 36  # height of a row of a dot or bar chart, and of a heat map, pixels

# The first colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), darkened or
# lightened where they lack contrast to the page.
CATEGORIES = {
    "light": [
        *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9"),
        *("#7a3e9d", "#8c4b2f", "#e69f00", "#4d4d4d", "#1b7837", "#c51b7d"),
    ],
    "dark": [
        *("#56b4e9", "#ff9a52", "#2fc79a", "#e6a3cb", "#f0e442", "#9fd3f5"),
        *("#c79be6", "#d69a7d", "#ffc14d", "#c8c8c8", "#7fd08f", "#f58ac0"),
    ],
}
# Colours by role in Vega-Lite's configuration, for a light and for a dark page.
THEMES = {
    page: {
        "mark": {"color": colours[0]},
        "range": {"category": colours, "heatmap": {"scheme": "viridis"}},
    }
    for page, colours in CATEGORIES.items()
}
# Scale whose domain need not begin at 0, with space for the points at its ends, pixels.
FREE = alt.Scale(zero=False, nice=False, padding=8)

_FILE_CONFIG = THEMES["light"] | {
    # vl-convert has the first font and so knows its widths; the second has the same. The padding
    # leaves room on machines that have neither and show wider letters.
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "background": "white",
    "padding": {"left": 45, "right": 20, "top": 10, "bottom": 10},
    "view": {"stroke": None},
    "axis": {"gridColor": "#e3e6ea", "labelColor": "#1b1f24", "titleColor": "#1b1f24"},
    "axisY": {"labelLimit": 260},
    "legend": {"labelLimit": 0, "symbolLimit": 0, "orient": "bottom"},
    "header": {"labelFontSize": 12, "labelFontWeight": "bold"},
}

# Panning with a finger would stop the page from scrolling, so panning needs a mouse. The wheel
# zooms only with Ctrl (or two fingers on a trackpad); with Shift, browsers scroll sideways.
_MOUSE = "[pointerdown[event.pointerType === 'mouse'], window:pointerup] > window:pointermove!"
_WHEEL = "wheel![event.ctrlKey || event.metaKey]"


def zoom(*channels: Literal["x", "y"]) -> alt.Parameter:
    """Selection that zooms and pans these axes; the report's buttons set its signals."""
    return alt.selection_interval(
        name="zoom", encodings=list(channels), bind="scales", translate=_MOUSE, zoom=_WHEEL
    )


def tooltip(*fields: str, shares: Sequence[str] = ()) -> list[alt.Tooltip]:
    """Fields shown for the datum under the pointer; shares have four decimals."""
    texts = [alt.Tooltip(f"{name}:N", title=name.replace("_", " ")) for name in fields]
    numbers = [
        alt.Tooltip(f"{name}:Q", title=name.replace("_", " "), format=".4f") for name in shares
    ]
    return texts + numbers


def to_spec(drawing: Drawing, rows: pd.DataFrame | str) -> Spec:
    """A chart of `ROWS` as a Vega-Lite specification; missing values become null, text stays."""
    spec = drawing.to_dict()
    for key in ("$schema", "config", "datasets"):
        spec.pop(key, None)
    if not isinstance(rows, str):
        rows = json.loads(rows.to_json(orient="records", double_precision=15))
    return spec | {"data": {"values": rows}}


def make_figure(
    title: str, description: str, drawing: Drawing, rows: pd.DataFrame, height: int
) -> Figure:
    """A chart of the report, as wide as the page; height in pixels, without axis and legend."""
    fit = alt.AutoSizeParams(type="fit-x", contains="padding")
    sized = drawing.properties(width="container", height=height, autosize=fit)
    return {"title": title, "description": description, "spec": to_spec(sized, rows)}


@functools.cache
def library() -> str:
    """The code of Vega, Vega-Lite and Vega-Embed, which sets `window.vegaEmbed`."""
    code = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return code.replace("</script", "<\\/script")  # would end the element that holds the code


def save(drawing: Drawing, rows: pd.DataFrame, path: Path) -> None:
    """Write a chart as an .svg file, else as PNG; the same chart and rows give the same bytes."""
    spec = to_spec(drawing, rows) | {"config": _FILE_CONFIG}
    # Vega numbers clip paths over the whole process; charts without zoom need none.
    spec = json.loads(json.dumps(spec).replace('"clip": true', '"clip": false'))
    with atomic_write(path) as partial:
        if path.suffix == ".svg":
            partial.write_text(vl_convert.vegalite_to_svg(spec), encoding="utf-8")
        else:
            partial.write_bytes(vl_convert.vegalite_to_png(spec, scale=1.5))
