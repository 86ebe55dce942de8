"""The templates of `dvc plots` in .dvc/plots/, generated from the charts of the report.

    python -m stages.publishing.dvc_templates

DVC fills in anchors such as <DVC_METRIC_X>
(https://dvc.org/doc/user-guide/experiment-management/visualizing-plots).
"""

import json
from pathlib import Path
from typing import Any

import altair as alt

from stages.core.sections import TASKS
from stages.reporting import charts
from stages.reporting.theme import THEMES, Spec, library, to_spec

FOLDER = Path(__file__).parents[2] / ".dvc/plots"
OFFLINE_PAGE = Path(__file__).parents[2] / "build/plots.html"  # not committed: 0.9 MB
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"  # DVC's page loads Vega-Lite 5
CONFIG = THEMES["light"] | {"legend": {"labelLimit": 0, "symbolLimit": 0}}


def templates() -> dict[str, Spec]:
    """All templates by name."""
    text = "datum.state === 'finished' ? format(datum.val_score, '.3f') : datum.state"
    figures = alt.FieldOneOfPredicate("figure", charts.CURVES)
    by_task = alt.Row("task:N", sort=list(TASKS), title=None)
    by_figure = alt.Row("figure:N", sort=charts.CURVES, title=None)
    cost, curves = charts.accuracy_over_cost(), charts.learning_curves(None)
    curves = curves.transform_filter(figures).properties(width=420, height=160)
    matrix = charts.confusion_matrix().properties(width=300, height=220)
    search = charts.search_map("up", "right").transform_calculate(text=text)
    search = search.properties(width=alt.Step(75), height=alt.Step(45))
    cost = cost.properties(width=520, height=200)
    return {
        "accuracy_over_cost": _template(cost, "tflop", "accuracy", by_task, "y"),
        "confusion_by_task": _template(matrix, "predicted", "actual", by_task, "xy"),
        "curves_by_variant": _template(curves, "epoch", "value", by_figure, "y"),
        "search": _template(search, "right", "up", alt.Undefined),
    }


def _template(
    chart: alt.Chart | alt.LayerChart, x: str, y: str, row: Any, independent: str = ""
) -> Spec:
    """A chart with a panel for each revision, side by side, and DVC's anchors.

    `x` and `y` are the columns that dvc.yaml names. The panels of a column follow `row`; the scales
    of `independent` axes differ between them.
    """
    panels = chart.facet(column=alt.Column("rev:N", sort=[], title=None), row=row)
    scales: dict[str, Any] = dict.fromkeys(independent, "independent")
    spec = to_spec(panels.resolve_scale(**scales), "<DVC_METRIC_DATA>")
    spec.pop("params", None)
    title = {"text": "<DVC_METRIC_TITLE>", "anchor": "middle"}
    text = json.dumps({"$schema": SCHEMA, "title": title, "config": CONFIG, **spec})
    for column, axis in ((x, "X"), (y, "Y")):
        text = text.replace(f'"field": "{column}"', f'"field": "<DVC_METRIC_{axis}>"')
        text = text.replace(f'"title": "{column}"', f'"title": "<DVC_METRIC_{axis}_LABEL>"')
    return dict(json.loads(text))


def offline_page() -> str:
    """A page for `dvc plots show --html-template`; DVC's own loads Vega from a server."""
    return f"""<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<title>Plots</title>
<script>{library()}</script>
</head>
<body>
{{plot_divs}}
</body>
</html>
"""


def main() -> None:
    """Write the templates, and the page."""
    for name, template in templates().items():
        text = json.dumps(template, indent=2, sort_keys=True) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    OFFLINE_PAGE.parent.mkdir(exist_ok=True)
    OFFLINE_PAGE.write_text(offline_page(), encoding="utf-8")
    print(f"templates: {FOLDER}; {OFFLINE_PAGE}")


if __name__ == "__main__":
    main()
