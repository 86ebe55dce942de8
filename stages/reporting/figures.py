"""A chart of the report with its title and, for those who do not see it, its content in words."""

from dataclasses import dataclass

import altair as alt
import pandas as pd

from stages.reporting.theme import Drawing, Spec, to_spec


@dataclass(frozen=True)
class Figure:
    """Title, description (a sentence without its full stop) and Vega-Lite specification."""

    title: str
    description: str
    spec: Spec


def make_figure(
    title: str, description: str, drawing: Drawing, rows: pd.DataFrame, height: int
) -> Figure:
    """A chart that fills the width of the page.

    Args:
        title: of the chart.
        description: what it shows, in words.
        drawing: the chart.
        rows: its data; the page lists them too.
        height: in pixels, without axis and legend.
    """
    fit = alt.AutoSizeParams(type="fit-x", contains="padding")
    sized = drawing.properties(width="container", height=height, autosize=fit)
    return Figure(title, description, to_spec(sized, rows))
