"""The templates of `dvc plots` in .dvc/plots/, made from the charts of the report.

    python -m stages.reporting.dvc_templates

DVC puts rows, columns and titles in place of anchors such as <DVC_METRIC_X>
(https://dvc.org/doc/user-guide/experiment-management/visualizing-plots). A template has a panel
for each task and each revision.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import altair as alt

from stages.core.params import TASKS
from stages.evaluation.scores import COMBINED
from stages.reporting import charts
from stages.reporting.theme import THEMES, Spec, to_spec

FOLDER = Path(__file__).parents[2] / ".dvc/plots"
# DVC's page loads Vega-Lite 5.
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"


@dataclass(frozen=True)
class Template:
    """How a chart becomes a template.

    Attributes:
        chart: makes the chart.
        x, y: columns that `x` and `y` in dvc.yaml name.
        size: of a panel: properties width and height.
        by: column of the panels from top to bottom; None: one.
        order: of these panels.
        independent: channels whose scales differ between panels.
    """

    chart: Callable[[], alt.Chart | alt.LayerChart]
    x: str
    y: str
    size: dict[str, Any]
    by: str | None = "task"
    order: list[str] = field(default_factory=lambda: list(TASKS))
    independent: tuple[str, ...] = ()


def _search() -> alt.LayerChart:
    chart = charts.search_map("up", "right")
    score = "datum.state === 'finished' ? format(datum.val_score, '.3f') : datum.state"
    return chart.transform_calculate(text=score)


def _subgroups() -> alt.LayerChart:
    group = "datum.gender + datum.race + datum.age"  # all but one are empty
    return charts.subgroup_accuracies().transform_calculate(group=group)


TEMPLATES = {
    "accuracy_over_cost": Template(
        charts.accuracy_over_cost,
        *("tflop", "accuracy", {"width": 520, "height": 200}),
        independent=("y",),
    ),
    "confusion_by_task": Template(
        charts.confusion_matrix,
        *("predicted", "actual", {"width": 300, "height": 220}),
        independent=("x", "y"),
    ),
    "curves_by_variant": Template(
        lambda: charts.learning_curves(None).transform_filter(
            alt.FieldOneOfPredicate("figure", charts.CURVES)
        ),
        *("epoch", "value", {"width": 420, "height": 160}),
        by="figure",
        order=charts.CURVES,
        independent=("y",),
    ),
    "reliability_by_task": Template(
        charts.reliability_diagram,
        *("confidence", "accuracy", {"width": 300, "height": 300}),
    ),
    "scores_by_task": Template(
        lambda: charts.score_intervals().transform_filter(
            "indexof(['nll', 'nll_scaled', 'mae'], datum.metric) < 0"
        ),
        *("value", "metric", {"width": 420, "height": alt.Step(22)}),
        order=[*TASKS, COMBINED],
        independent=("y",),
    ),
    "search": Template(
        _search,
        *("right", "up", {"width": alt.Step(75), "height": alt.Step(45)}),
        by=None,
    ),
    "subgroups_by_task": Template(
        _subgroups,
        *("accuracy", "by", {"width": 420, "height": alt.Step(20)}),
    ),
}


def make_template(template: Template) -> Spec:
    """A template as a Vega-Lite specification with DVC's anchors."""
    panels: dict[str, Any] = {"column": alt.Column("rev:N", sort=[], title=None)}
    if template.by:
        panels["row"] = alt.Row(f"{template.by}:N", sort=template.order, title=None)
    chart = template.chart().properties(**template.size).facet(**panels)
    if template.independent:
        chart = chart.resolve_scale(**dict.fromkeys(template.independent, "independent"))
    spec = to_spec(chart, "<DVC_METRIC_DATA>")
    spec.pop("params", None)  # panels do not zoom
    title = {"text": "<DVC_METRIC_TITLE>", "anchor": "middle"}
    text = json.dumps({"$schema": SCHEMA, "title": title, "config": THEMES["light"], **spec})
    for column, axis in ((template.x, "X"), (template.y, "Y")):
        text = text.replace(f'"field": "{column}"', f'"field": "<DVC_METRIC_{axis}>"')
        text = text.replace(f'"title": "{column}"', f'"title": "<DVC_METRIC_{axis}_LABEL>"')
    return dict(json.loads(text))


def main() -> None:
    """Write the templates."""
    for name, template in TEMPLATES.items():
        text = json.dumps(make_template(template), indent=2, sort_keys=True) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    print(f"{len(TEMPLATES)} templates in {FOLDER}")


if __name__ == "__main__":
    main()
