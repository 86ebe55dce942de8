"""A model card for each variant: Markdown in the shape that Hugging Face gives them.

The header is YAML as https://huggingface.co/docs/hub/model-cards describes it, with the scores as
`model-index`; the sections follow M. Mitchell et al., Model Cards for Model Reporting, FAT* 2019
(https://arxiv.org/abs/1810.03993). All figures come from the workspace's files.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML
from tabulate import tabulate

from stages.core.files import digest
from stages.core.params import Params
from stages.core.sections import TASKS
from stages.evaluation.scores import COMBINED
from stages.reporting.data_section import class_counts
from stages.reporting.diagram import in_words
from stages.reporting.licences import (
    LICENCE_OF_IMAGES,
    SOURCES,
    Licence,
    licence_of_model,
    licences,
)
from stages.reporting.report import make_environment
from stages.reporting.results import Results, RunResults

_SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "one_off": "off by one group at most",
    "mae": "mean absolute error, years",
}
_CALIBRATION = {
    "nll": "negative log-likelihood, nats",
    "nll_scaled": "the same after temperature scaling",
    "ece": "expected calibration error",
    "ece_scaled": "the same after temperature scaling",
}
MODELS = Path("models")


def render_card(variant: str, results: Results, people: pd.DataFrame, params: Params) -> str:
    """The card of one variant.

    Args:
        variant: of the suite.
        results: of the workspace in the current folder.
        people: as `report.render_report` takes it.
        params: of the workspace.
    """
    run, source = results.runs[variant], params.data.source
    weights = run.plan["structure"]["weights"]
    backbone = None if weights == "none" else (run.plan["structure"]["backbone"], weights)
    own = licence_of_model(source, backbone)
    page = make_environment(autoescape=False).get_template("card.md.j2")
    return page.render(
        header=_yaml(_header(variant, run, source, own)),
        variant=variant,
        demo=source == "demo",
        source=SOURCES[source],
        structure=run.plan["structure"],
        parts=in_words(run.structure),
        size=params.detect.size,
        detect=params.detect,
        classes={task: params.classes.of(task) for task in run.predictions.tasks},
        splits=results.divided,
        fates=results.fates,
        audit=results.audit,
        people=_samples(people),
        training=run.training,
        recipe=run.plan["recipe"],
        augmentation=run.plan["augmentation"],
        weights=run.weights,
        seed=params.seed,
        images=len(run.predictions.names),
        confidence=params.evaluate.confidence,
        scores=_scores(run, _SCORES, results.comparison, variant),
        combined=_bracketed(*run.score(COMBINED, "score")),
        per_class=_per_class(run.tables["per_class"]),
        weakest=_weakest(run.tables["per_class"]),
        subgroups=_subgroups(run.tables["subgroups"]),
        gaps=_gaps(run.tables["fairness"]),
        min_subgroup_size=params.evaluate.min_subgroup_size,
        calibration=_scores(run, _CALIBRATION),
        temperatures=run.temperatures,
        costs=run.costs,
        licences=_licences(licences(source, params.detect.detector, backbone)),
        images_licence=LICENCE_OF_IMAGES[source],
        own=own,
        sha256=digest(MODELS / variant / "model.keras"),
    )


def _header(variant: str, run: RunResults, source: str, licence: Licence) -> dict[str, Any]:
    tasks = run.predictions.tasks
    metrics = [
        {
            "type": kind,
            "name": f"{task} {name}",
            "value": round(run.score(task, metric)[0], 6),
        }
        for task in tasks
        for kind, metric, name in (
            ("accuracy", "accuracy", "accuracy"),
            ("f1", "macro_f1", "macro F1"),
        )
    ]
    dataset = {"type": source, "name": SOURCES[source], "split": "test"}
    return {
        **licence.header(),
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["face", *tasks, "multi-task" if len(tasks) > 1 else "single-task"],
        "metrics": ["accuracy", "f1"],
        "model-index": [
            {
                "name": variant,
                "results": [
                    {
                        "task": {"type": "image-classification", "name": "face attributes"},
                        "dataset": dataset,
                        "metrics": metrics,
                    }
                ],
            }
        ],
    }


def _yaml(content: Mapping[str, Any]) -> str:
    writer, text = YAML(typ="safe", pure=True), io.StringIO()
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.dump(dict(content), text)
    return text.getvalue()


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return tabulate(escaped, header, tablefmt="github", disable_numparse=True)


def _bracketed(value: float, low: float, high: float) -> str:
    if pd.isna(value):
        return "-"
    return f"{value:.3f}" if pd.isna(low) else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _samples(people: pd.DataFrame) -> str:
    rows = []
    for task in TASKS:
        for row in class_counts(people, task).to_dict(orient="records"):
            rows.append([task, str(row[task]), f"{row['images']:,}", f"{row['share']:.1%}"])
    return _table(["task", "class", "crops", "share"], rows)


def _scores(
    run: RunResults,
    names: Mapping[str, str],
    comparison: pd.DataFrame | None = None,
    variant: str = "",
) -> str:
    """A row for each score that the run has, a column for each task."""
    tasks, known = run.predictions.tasks, set(run.tables["scores"]["metric"])
    rows = [
        [words, *(_bracketed(*run.score(task, metric)) for task in tasks)]
        for metric, words in names.items()
        if metric in known
    ]
    if comparison is not None:
        row = comparison.set_index("variant").loc[variant]
        for metric, words in (("accuracy", "accuracy"), ("macro_f1", "macro F1")):
            published = [row[f"published_{task}_{metric}"] for task in tasks]
            if not all(map(pd.isna, published)):
                cells = ["-" if pd.isna(value) else f"{value:.3f}" for value in published]
                rows.append([f"{words}, as published (see below)", *cells])
    return _table(["score", *tasks], rows)


def _per_class(table: pd.DataFrame) -> str:
    rows = [
        [
            *(row["task"], row["class"]),
            *(f"{row[score]:.3f}" for score in ("precision", "recall", "f1")),
            f"{row['support']:,}",
        ]
        for row in table.to_dict(orient="records")
    ]
    return _table(["task", "class", "precision", "recall", "F1", "images"], rows)


def _weakest(table: pd.DataFrame) -> list[str]:
    """For each task, the class that is recognised least often."""
    found = []
    for task, rows in table[table["support"] > 0].groupby("task", sort=False):
        least = rows.nsmallest(1, "recall").iloc[0]
        found.append(
            f"{task}: {least['class']}, recognised in {least['recall']:.1%} of "
            f"{least['support']:,} images"
            if least["recall"] < 1
            else f"{task}: none, all are always recognised"
        )
    return found


def _subgroups(table: pd.DataFrame) -> str:
    """Accuracy by each single trait, groups as rows and tasks as columns."""
    single = table[~table["by"].str.contains(" ") & (table["images"] > 0)]
    tasks = list(dict.fromkeys(single["task"]))
    single = single.assign(
        group=[row[row["by"]] for row in single.to_dict(orient="records")],
        cell=[_bracketed(r.accuracy, r.low, r.high) for r in single.itertuples()],
    )
    rows = []
    for (by, group), part in single.groupby(["by", "group"], sort=False):
        small = " (few)" if part["small"].iloc[0] else ""
        cells = part.set_index("task")["cell"]
        rows.append(
            [str(by), str(group), f"{part['images'].iloc[0]:,}{small}", *(cells[t] for t in tasks)]
        )
    return _table(["by", "group", "images", *(f"{task} accuracy" for task in tasks)], rows)


def _gaps(table: pd.DataFrame) -> list[str]:
    """For each task and grouping of two groups or more, how far they lie apart."""
    return [
        f"{row['task']} by {row['by'].replace(' ', ' x ')}: {row['worst']} "
        f"{row['worst_accuracy']:.3f} to {row['best']} {row['best_accuracy']:.3f}, "
        f"gap {row['gap']:.3f}"
        for row in table[table["gap"].notna()].to_dict(orient="records")
    ]


def _licences(rows: Sequence[tuple[str, Licence]]) -> str:
    return _table(["what", "licence"], [[what, licence.text] for what, licence in rows])
