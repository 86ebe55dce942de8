"""The report: one HTML file with everything inside, which is read without a network.

A content security policy forbids the page to fetch anything. Vega-Lite, from the wheel of
vl-convert, draws the charts. The same results give the same bytes.
"""

import base64
import io
from collections.abc import Callable
from pathlib import Path

import jinja2
import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup
from PIL import Image
from tqdm import tqdm

from stages.comparison.significance import describe
from stages.comparison.table import read_published
from stages.core.params import Params
from stages.core.paths import CROPS, PROVENANCE
from stages.core.sections import TASKS
from stages.evaluation.scores import COMBINED
from stages.reporting import comparison_section, comparison_tables, data_section, model_section
from stages.reporting.diagram import draw_structure
from stages.reporting.licences import SOURCES
from stages.reporting.results import Results, RunResults
from stages.reporting.tables import make_table, share
from stages.reporting.theme import THEMES, library

TEMPLATES = Path(__file__).with_name("templates")
QUALITY = 85  # of JPEG: a crop of 100 pixels takes some 3 kB


def render_report(
    results: Results,
    samples: pd.DataFrame,
    crops: npt.NDArray[np.uint8] | None,
    params: Params,
) -> str:
    """The page of a workspace.

    `samples` has a row for each crop: name, years, age, gender and race (ordered categories),
    split, group. `crops` are in the same order, uint8 RGB (N, height, width, 3); None shows no
    picture.
    """
    classes = {task: params.classes.of(task) for task in TASKS}
    traits = ["race", "age", "gender"]
    first = samples.groupby(traits, observed=True).head(1).sort_values(traits, kind="stable")
    predictions = {name: run.predictions for name, run in results.runs.items()}
    pairs = results.tests[["variant_a", "variant_b"]]
    own = results.tests[pairs.isin(list(predictions)).all(axis=1)]
    conflicting = data_section.conflicting_groups(results.conflicting, classes)
    as_text = {"group": str, "age": str}
    page = make_environment(autoescape=True).get_template("report.html.j2")
    return page.render(
        style=Markup(_read("report.css")),
        script=Markup(_read("report.js")),
        library=Markup(library()),
        themes=THEMES,
        source=SOURCES[params.data.source],
        params=params,
        results=results,
        samples=samples,
        picture_of=None if crops is None else _pictures(list(samples["name"]), crops),
        sheet=None if crops is None else first,
        best=_best(results),
        smallest=samples.groupby(list(TASKS), observed=False).size().nsmallest(1),
        splits=["train", "val", "test", *(["dropped"] if results.split["dropped"] else [])],
        conflicting=conflicting,
        conflicting_table=make_table(
            "Pictures that stand under several classes", conflicting, as_text
        ),
        issues_table=make_table(
            "Labels that networks dispute", results.issues, {"confidence": share}
        ),
        ceiling=comparison_tables.noise_markdown(
            results.label_noise,
            read_published(params.data.source, params.classes.age_upper_bounds),
        ).strip(),
        made_of=_made_of(results),
        verdicts=describe(own, predictions, 1 - params.evaluate.confidence),
        runs=tqdm(results.runs.items(), "drawing", unit="model", disable=None),
        draw_structure=draw_structure,
        of_data=data_section,
        of_runs=comparison_section,
        of_model=model_section,
        tables=comparison_tables,
    )


def _made_of(results: Results) -> list[tuple[str, str]]:
    """What the results follow from: names and values for the foot of the page."""
    run = next(iter(results.runs))
    first = results.runs[run].provenance
    versions = [f"{name} {version}" for name, version in first["versions"].items()]
    return [
        ("SHA-256 of the crops", first["data"][CROPS.name]),
        ("of the code of the training", first["code"]),
        ("versions", ", ".join(versions)),
        # The commit itself would make this page another output, though nothing in it had changed.
        ("git commit: see", (PROVENANCE / f"{run}.json").as_posix()),
    ]


def make_environment(autoescape: bool) -> jinja2.Environment:
    """The templates of this package; a name that is missing in one is an error."""
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


def _pictures(names: list[str], crops: npt.NDArray[np.uint8]) -> Callable[[str], str]:
    """A function from an image's name to its crop as a `data:` address."""
    rows = {name: row for row, name in enumerate(names)}

    def picture_of(name: str) -> str:
        buffer = io.BytesIO()
        Image.fromarray(crops[rows[name]]).save(buffer, "JPEG", quality=QUALITY)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")

    return picture_of


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _best(results: Results) -> tuple[str, RunResults]:
    """The highest combined score of those of the most tasks: others are not comparable."""
    most = max(len(run.plan.tasks) for run in results.runs.values())
    compared = [(name, run) for name, run in results.runs.items() if len(run.plan.tasks) == most]
    return max(compared, key=lambda item: item[1].score(COMBINED, "score")[0])
