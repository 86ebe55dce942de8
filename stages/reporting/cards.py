"""A model card for each variant: Markdown in the format of Hugging Face.

The header is YAML as https://huggingface.co/docs/hub/model-cards describes it, with the scores as
`model-index`; the sections follow M. Mitchell et al., Model Cards for Model Reporting, FAT* 2019
(https://arxiv.org/abs/1810.03993). All figures come from the workspace's files.
"""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from stages.core.files import digest
from stages.core.params import Params
from stages.core.paths import RunPaths
from stages.core.sections import TASKS
from stages.evaluation.scores import COMBINED
from stages.reporting import model_section
from stages.reporting.data_section import class_counts
from stages.reporting.diagram import in_words
from stages.reporting.licences import SOURCES, Licence, licence_of_model, licences
from stages.reporting.report import make_environment
from stages.reporting.results import Results, RunResults
from stages.reporting.tables import EMPTY, Cell, crossed, make_table, percent, share, with_interval
from stages.runs.resolve import pretrained_parts


def render_card(variant: str, results: Results, samples: pd.DataFrame, params: Params) -> str:
    """The card of one variant of the runs; the other arguments are those of `render_report`."""
    run, source = results.runs[variant], params.data.source
    backbones = pretrained_parts(run.plan)
    parts = licences(source, params.detect.detector, backbones)
    rows = pd.DataFrame([(part, each.text) for part, each in parts], columns=["what", "licence"])
    per_class, fairness = run.tables["per_class"], run.tables["fairness"]
    known = per_class[per_class["support"] > 0]
    page = make_environment(autoescape=False).get_template("card.md.j2")
    return page.render(
        header=_header(variant, run, source, licence_of_model(source, backbones)),
        variant=variant,
        source=SOURCES[source],
        parts=in_words(run.structure),
        params=params,
        classes={task: params.classes.of(task) for task in run.plan.tasks},
        results=results,
        run=run,
        network=run.plan.network,
        samples=_samples(samples),
        scores=_scores(run, results.comparison.set_index("variant").loc[variant]),
        combined=with_interval(*run.score(COMBINED, "score")),
        per_class=model_section.classes_table(run, variant).as_markdown(),
        weakest=known.loc[known.groupby("task", sort=False)["recall"].idxmin()],
        subgroups=_subgroups(run.tables["subgroups"]),
        gaps=fairness[fairness["gap"].notna()],
        calibration=_by_task(run, model_section.score_rows(run, model_section.CALIBRATION)),
        licences=make_table("", rows, {}).as_markdown(),
        sha256=digest(RunPaths(variant).network),
    )


def card_of_file(card: str, file: Path, compared: Mapping[str, Any]) -> str:
    """The card of a run for an ONNX file of it, in place of its Keras network.

    `compared` is what `write_released` returns.
    """
    tasks = [task for task in TASKS if task in compared]
    figures = ", ".join(f"{task} {compared[task]['accuracy']:.3f}" for task in tasks)
    same = min(compared[task]["agreement"] for task in tasks)
    changes = (
        (r"library_name: keras", "library_name: onnx"),
        (r"per image, [\d.]+ MB \|", f"per image, {compared['megabytes']:.1f} MB |"),
        (
            r"\| file \| .* \|",
            f"| file | `{file.name}`, SHA-256 `{digest(file)}`; weights in half precision, "
            "arithmetic in float32 |",
        ),
        (
            r"```python\n(.*\n)*?```",
            "```sh\nutkface-mtl predict photo.jpg\n"
            "utkface-mtl predict crops/ --no-detect  # images that are crops already\n```",
        ),
        (
            r"(On [\d,]+ test images .*)",
            rf"\1 The figures are those of the Keras network. This file has the accuracies "
            f"{figures}, and in each task at least {same:.1%} of its answers are the same.",
        ),
        (
            r"The saved network's own\nprobabilities are those before scaling\.",
            "`predict` and\n`serve` apply them; the file's own probabilities are unscaled.",
        ),
    )
    for pattern, text in changes:
        card, number = re.subn(pattern, text, card)
        if number != 1:
            raise ValueError(f"the card has {number} times {pattern}")
    return card


def _header(variant: str, run: RunResults, source: str, licence: Licence) -> str:
    tasks = run.plan.tasks
    metrics = [
        {"type": kind, "name": f"{task} {name}", "value": round(run.score(task, metric)[0], 6)}
        for task in tasks
        for kind, metric, name in (("accuracy",) * 3, ("f1", "macro_f1", "macro F1"))
    ]
    result = {
        "task": {"type": "image-classification", "name": "face attributes"},
        "dataset": {"type": source, "name": SOURCES[source], "split": "test"},
        "metrics": metrics,
    }
    header = {
        **licence.header(),
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["face", *tasks, "multi-task" if len(tasks) > 1 else "single-task"],
        "metrics": ["accuracy", "f1"],
        "model-index": [{"name": variant, "results": [result]}],
    }
    text = io.StringIO()
    YAML().dump(header, text)
    return text.getvalue()


def _samples(samples: pd.DataFrame) -> str:
    counts = [class_counts(samples, task).rename(columns={task: "class"}) for task in TASKS]
    table = pd.concat(counts, keys=TASKS, names=["task", None]).reset_index("task")
    formats = {"images": "{:,}".format, "share": percent}
    return make_table("", table, formats, {"images": "crops"}).as_markdown()


def _by_task(run: RunResults, rows: list[list[Cell]]) -> str:
    return crossed("", "score", run.plan.tasks, rows).as_markdown()


def _scores(run: RunResults, comparison: pd.Series) -> str:
    words = model_section.ACCURACIES
    rows = model_section.score_rows(run, {m: words[m] for m in words if m != "weighted_f1"})
    for metric in ("accuracy", "macro_f1"):
        published = [comparison[f"published_{t}_{metric}"] for t in run.plan.tasks]
        if not pd.isna(published).all():
            cells = [Cell(EMPTY if pd.isna(value) else share(value)) for value in published]
            rows.append([Cell(f"{words[metric]}, as published (see below)"), *cells])
    return _by_task(run, rows)


def _subgroups(table: pd.DataFrame) -> str:
    single = table[~table["by"].str.contains(" ") & (table["images"] > 0)]
    small = single["small"].map({True: " (few)", False: ""})
    single = single.assign(
        group=model_section.group_names(single),
        images=single["images"].map("{:,}".format) + small,
        cell=[with_interval(r.accuracy, r.low, r.high) for r in single.itertuples()],
        task=single["task"] + " accuracy",
    )
    cells = single.set_index(["by", "group", "images", "task"])["cell"]
    return make_table("", cells.unstack(sort=False).reset_index(), {}).as_markdown()
