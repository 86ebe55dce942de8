"""The templates of `dvc plots` in .dvc/plots/, generated from the charts of the report.

    python -m stages.publishing.dvc_templates

DVC fills in anchors such as <DVC_METRIC_X>
(https://dvc.org/doc/user-guide/experiment-management/visualizing-plots).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt

from stages.core.sections import TASKS
from stages.evaluation.scores import COMBINED
from stages.reporting import charts
from stages.reporting.theme import THEMES, Spec, to_spec

FOLDER = Path(__file__).parents[2] / ".dvc/plots"
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"  # DVC's page loads Vega-Lite 5
CONFIG = THEMES["light"] | {"legend": {"labelLimit": 0, "symbolLimit": 0}}


def templates() -> dict[str, Spec]:
    """All templates by name."""
    names = "datum.gender + datum.race + datum.age"  # one of them is not empty
    text = "datum.state === 'finished' ? format(datum.val_score, '.3f') : datum.state"
    figures = alt.FieldOneOfPredicate("figure", charts.CURVES)
    unbounded = "indexof(['nll', 'nll_scaled', 'mae'], datum.metric) < 0"
    return {
        "accuracy_over_cost": _template(
            charts.accuracy_over_cost(), "tflop", "accuracy", (520, 200), independent=["y"]
        ),
        "confusion_by_task": _template(
            *(charts.confusion_matrix(), "predicted", "actual", (300, 220)),
            independent=["x", "y"],
        ),
        "curves_by_variant": _template(
            charts.learning_curves(None).transform_filter(figures),
            *("epoch", "value", (420, 160), "figure", charts.CURVES, ["y"]),
        ),
        "reliability_by_task": _template(
            charts.reliability_diagram(), "confidence", "accuracy", (300, 300)
        ),
        "scores_by_task": _template(
            charts.score_intervals().transform_filter(unbounded),
            *("value", "metric", (420, alt.Step(22)), "task", [*TASKS, COMBINED], ["y"]),
        ),
        "search": _template(
            charts.search_map("up", "right").transform_calculate(text=text),
            *("right", "up", (alt.Step(75), alt.Step(45)), None),
        ),
        "subgroups_by_task": _template(
            charts.subgroup_accuracies().transform_calculate(group=names),
            *("accuracy", "by", (420, alt.Step(20))),
        ),
    }


def _template(
    chart: alt.Chart | alt.LayerChart,
    x: str,
    y: str,
    size: tuple[int | alt.Step, int | alt.Step],
    by: str | None = "task",
    order: Sequence[str] = TASKS,
    independent: Sequence[str] = (),
) -> Spec:
    """A chart with a panel for each revision, side by side, and DVC's anchors.

    `x` and `y` are the columns that dvc.yaml names, `size` is that of a panel. Panels from top to
    bottom follow `by` in this `order`; the scales of `independent` channels differ between them.
    """
    panels: dict[str, Any] = {"column": alt.Column("rev:N", sort=[], title=None)}
    if by:
        panels["row"] = alt.Row(f"{by}:N", sort=list(order), title=None)
    chart = chart.properties(width=size[0], height=size[1])
    scales: dict[str, Any] = dict.fromkeys(independent, "independent")
    spec = to_spec(chart.facet(**panels).resolve_scale(**scales), "<DVC_METRIC_DATA>")
    spec.pop("params", None)
    title = {"text": "<DVC_METRIC_TITLE>", "anchor": "middle"}
    text = json.dumps({"$schema": SCHEMA, "title": title, "config": CONFIG, **spec})
    for column, axis in ((x, "X"), (y, "Y")):
        text = text.replace(f'"field": "{column}"', f'"field": "<DVC_METRIC_{axis}>"')
        text = text.replace(f'"title": "{column}"', f'"title": "<DVC_METRIC_{axis}_LABEL>"')
    return dict(json.loads(text))


def main() -> None:
    """Write the templates."""
    for name, template in templates().items():
        text = json.dumps(template, indent=2, sort_keys=True) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    print(f"templates: {FOLDER}")


if __name__ == "__main__":
    main()
