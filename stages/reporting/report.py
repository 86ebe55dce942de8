"""The report: one HTML file with everything inside, which is read without a network.

Style, script, charts and pictures are part of the page; a content security policy forbids it to
fetch anything. Vega-Lite (https://vega.github.io/vega-lite/) draws the charts; its code, about
0.9 MB, comes from the wheel of vl-convert. The page has no date: the same results give the same
bytes.
"""

import functools
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import vl_convert
from markupsafe import Markup
from tqdm import tqdm

from stages.comparison.significance import describe
from stages.core.params import Params
from stages.core.sections import TASKS
from stages.reporting import comparison_section as compared
from stages.reporting import data_section as data
from stages.reporting import model_section as models
from stages.reporting.comparison_tables import comparison_table, describe_leakage, leakage_table
from stages.reporting.diagram import draw_structure
from stages.reporting.licences import SOURCES
from stages.reporting.pictures import Pictures, contact_sheet
from stages.reporting.results import Results, RunResults
from stages.reporting.summary import summarise
from stages.reporting.theme import THEMES

TEMPLATES = Path(__file__).with_name("templates")
SPLITS = ("train", "val", "test")
DROPPED = "dropped"
PER_GROUP = 1  # pictures of each race, age group and gender in the contact sheet


def render_report(
    results: Results, samples: pd.DataFrame, pictures: Pictures, params: Params
) -> str:
    """The page.

    Args:
        results: of the workspace.
        samples: a row for each crop, in the index's order: name, years, age, gender and race
            (ordered categories), split, group.
        pictures: the crops, or none.
        params: of the workspace.
    """
    page = make_environment(autoescape=True).get_template("report.html.j2")
    return page.render(
        style=Markup(_read("report.css")),
        script=Markup(_read("report.js")),
        library=Markup(_library()),
        themes=THEMES,
        demo=params.data.source == "demo",
        source=SOURCES[params.data.source],
        setting=params,
        variants=models.variants_table(results.runs),
        timings=params.report.timings,
        summary=list(summarise(results, samples, params.evaluate.confidence)),
        pictures=pictures,
        models=[
            _model(name, run, params)
            for name, run in tqdm(results.runs.items(), "drawing", unit="model", disable=None)
        ],
        searches=[
            compared.search_figure(name, table, params.searches[name])
            for name, table in results.searches.items()
        ],
        **_of_the_data(results, samples, pictures, params),
        **_of_all_runs(results, params),
    )


def make_environment(autoescape: bool) -> jinja2.Environment:
    """The templates of this package; a name that is missing in one is an error.

    Args:
        autoescape: for HTML.
    """
    # Markdown needs no escaping; it quotes this project's own figures only.
    environment = jinja2.Environment(  # nosec B701
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = "{:,}".format
    # Columns stay in their order.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}
    return environment


@functools.cache
def _library() -> str:
    """The code of Vega, Vega-Lite and Vega-Embed, which sets `window.vegaEmbed`."""
    code = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return code.replace("</script", "<\\/script")  # would end the element that holds the code


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _of_the_data(
    results: Results, samples: pd.DataFrame, pictures: Pictures, params: Params
) -> dict[str, Any]:
    splits = [*SPLITS, *([DROPPED] if results.split[DROPPED] else [])]
    classes = {task: params.classes.of(task) for task in TASKS}
    conflicting = data.conflicting_groups(results.conflicting, classes)
    return {
        "fates": data.fates_table(results.detected),
        "samples": data.sample_figures(samples),
        "copies": data.copies_table(results.split),
        "conflicting": data.conflicting_table(conflicting),
        "conflicting_groups": list(conflicting.groupby("group", sort=False)),
        "sheet": contact_sheet(samples, PER_GROUP) if pictures.shown else None,
        "split": data.split_table(samples, splits),
        "split_charts": data.split_figures(samples, SPLITS),
        "audit": results.audit,
    }


def _of_all_runs(results: Results, params: Params) -> dict[str, Any]:
    confidence, rerun = params.evaluate.confidence, not results.leakage.empty
    predictions = {name: run.predictions for name, run in results.runs.items()}
    tests = results.tests
    own = tests[tests[["variant_a", "variant_b"]].isin(list(predictions)).all(axis=1)]
    return {
        "curves": compared.curve_figures(results),
        "accuracies": compared.accuracy_figures(results, ["published", "honest"]),
        "comparisons": [
            compared.accuracy_table(results),
            comparison_table(results.comparison, "macro_f1"),
        ],
        "verdicts": describe(own, predictions, 1 - confidence),
        "tests": compared.tests_table(tests, confidence),
        "protocols": compared.accuracy_figures(results) if rerun else [],
        "leakage": leakage_table(results.leakage),
        "leakage_words": describe_leakage(results.leakage) if rerun else "",
        "fairness": compared.fairness_table(results),
        "min_subgroup_size": params.evaluate.min_subgroup_size,
        "costs": compared.costs_table(results),
        "costs_chart": compared.costs_figure(results),
        "issues": compared.issues_table(results.issues),
        "issue_pictures": results.issues.head(params.report.issues),
        "confidence": confidence,
    }


def _model(name: str, run: RunResults, params: Params) -> dict[str, Any]:
    """The section of one variant."""
    return {
        "name": name,
        "picture": draw_structure(run.structure, name),
        "training": models.training_table(run, name),
        "scores": models.scores_table(run, name, params.evaluate.confidence),
        "classes": models.classes_table(run, name),
        "confusion": models.confusion_figures(run, name),
        "reliability": models.reliability_figures(run, name),
        "subgroups": models.subgroup_figures(run, name),
        "errors": {
            task: models.confident_errors(run.predictions, task, params.report.errors)
            for task in run.predictions.tasks
        },
    }
