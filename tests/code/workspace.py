"""A small finished workspace: real nodes where they are quick, drawn predictions for trainings."""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages import audit, compare, lists, plan, split
from stages.core.files import write_csv, write_json
from stages.core.params import Params, load_params
from stages.core.paths import SPLIT, RunPaths
from stages.core.run_names import RunName
from stages.core.sections import TASKS
from stages.dataset.examples import read_examples, was_trained_on
from stages.dataset.split_files import read_lists, read_split
from stages.evaluation.evaluate import evaluate_files
from stages.evaluation.predictions import prediction_table
from stages.faces.index import Row, write_faces
from stages.tuning.search_table import tabulate_changes, tabulate_search
from stages.tuning.searches import combinations

TOP = Path(__file__).parents[2]
CNN, BLOCK5, GENDER = (
    *("mtl-cnn-ge-gm", "mtl-vgg16-imagenet-block5"),
    "stl-vgg16-imagenet-block5-gender",
)
SUITE = (CNN, BLOCK5, GENDER)
SUFFIXES = ("published-split", "fold-0", "fold-1", "fold-2")
RUNS = [*SUITE, *(f"{variant}+{suffix}" for suffix in SUFFIXES for variant in SUITE)]
SEARCH = "mtl-vgg16-block5"
ABLATION = "ablation-cnn"
HOSTILE = "<img src=x onerror=alert(1)>/"  # an archive's name before that of a conflicting image
IMAGES = 240
EPOCHS = 3
SIZE = 48  # side of the crops, pixels


def make_workspace(folder: Path) -> Params:
    """Fill a folder with all that the stages before `report` leave. Returns its params."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(_params(), encoding="utf-8")
    shutil.copy(TOP / "variants.toml", folder)
    with inside(folder):
        params = load_params()
        _draw_faces()
        for stage in (split, plan, lists):
            stage.main()
        for run in params.run_names:
            _leave_run(params, run, SUITE.index(run.variant))
            weights = {"file": None, "sha256": None}
            if params.variants[run.variant].weights != "none":
                weights = {"file": "vgg16-imagenet.h5", "sha256": "0" * 64}
            write_json(RunPaths(run.text).weights, weights)
        audit.main()
        compare.main()
        leave_searches(params)
    return params


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _params() -> str:
    text = (TOP / "params.yaml").read_text(encoding="utf-8")
    runs = "".join(f"- {name}\n" for name in RUNS)
    text = re.sub(r"^runs:\n(- .*\n)+", f"runs:\n{runs}", text, flags=re.MULTILINE)
    for old, new in {
        "folds: 0": "folds: 3",
        "timings: false": "timings: true",
        "size: 100": f"size: {SIZE}",
        "resamples: 2000": "resamples: 100",
        "min_subgroup_size: 30": "min_subgroup_size: 5",
        "max_epochs: 6": f"max_epochs: {EPOCHS}",
    }.items():
        assert old in text, f"params.yaml no longer has {old!r}"
        text = text.replace(old, new)
    return text


def _draw_faces() -> None:
    """Patterns with labels: two pictures stand there twice, one of these under two races."""
    chance = np.random.default_rng(1)
    coarse = chance.integers(0, 256, (IMAGES, 6, 6, 3), np.uint8)
    crops = coarse.repeat(SIZE // 6, axis=1).repeat(SIZE // 6, axis=2)
    crops[1], crops[3] = crops[0], crops[2]
    labels = [
        (int(a), int(g), int(r))
        for a, g, r in zip(
            chance.integers(1, 100, IMAGES),
            chance.integers(0, 2, IMAGES),
            chance.choice(5, IMAGES, p=[0.4, 0.2, 0.2, 0.15, 0.05]),
            strict=True,
        )
    ]
    labels[1] = labels[0]
    labels[2], labels[3] = (30, 0, 0), (30, 0, 1)
    extractions = [
        (_row(f"{HOSTILE if i == 3 else ''}{a}_{g}_{r}_{i:04}.jpg", a, g, r), crop)
        for i, ((a, g, r), crop) in enumerate(zip(labels, crops, strict=True))
    ]
    extractions.append((Row("blank.jpg", "drawn.tar", "unreadable", reason="not an image"), None))
    counts = write_faces(
        extractions, Path("data/faces/index.csv"), Path("data/faces/crops.npy"), SIZE
    )
    total = sum(counts.values())
    shares = {f"{outcome}_percent": round(100 * n / total, 3) for outcome, n in counts.items()}
    write_json(Path("metrics/detect.json"), {"members": total, **counts, **shares})


def _row(name: str, age: int, gender: int, race: int) -> Row:
    return Row(name, "drawn.tar", "cropped", age, gender, race, 0.99, 0, 0, 9, 9, 1, 48, 48)


def _leave_run(params: Params, run: RunName, number: int) -> None:
    """What train and evaluate leave of a run, its predictions drawn at random."""
    paths, variant = RunPaths(run.text), run.variant
    tasks = params.variants[variant].task_list
    listed = read_lists(paths.lists)
    used = [
        pd.DataFrame({"name": listed["name"][listed[split]], "used_for": split})
        for split in ("train", "val")
    ]
    write_csv(paths.images, pd.concat(used))
    write_keras_file(paths.network, tasks)
    classes = {task: params.classes.of(task) for task in TASKS}
    files = {split: paths.predictions(split) for split in ("test", "val")}
    for side, file in files.items():
        bounds = params.classes.age_upper_bounds
        faces = read_examples(Path("data/faces"), paths.lists, side, TASKS, bounds)
        chance = np.random.default_rng([number, len(side)])
        seen = was_trained_on(faces.names, paths.images)
        outputs = {}
        for task in tasks:
            logits = chance.normal(size=(len(faces.names), len(classes[task])))
            logits[np.arange(len(logits)), faces.labels[task]] += 1.5 + 0.3 * number + 2 * seen
            values = np.exp(2 * logits)
            outputs[task] = (values / values.sum(axis=1, keepdims=True)).astype(np.float32)
        table = prediction_table(faces.names, faces.labels, outputs, classes, faces.ages)
        write_csv(file, table.assign(trained_on=seen) if side == "test" else table)
    result = evaluate_files(files["test"], files["val"], read_split(SPLIT), params)
    result.write(paths.evaluation)
    write_json(paths.metrics, result.short)
    costs = {"parameters": 300_000 * (number + 1), "trainable_parameters": 200_000 + number}
    costs |= {"megabytes": 1.5, "gflops": 0.25 * (number + 1)}
    training = {"training_tflop_once": 2.0 * number, "training_tflop_epoch": 0.5}
    write_json(paths.evaluation / "costs.json", costs | training)
    summary = {"precision": "float32", "best_epoch": 2, "epochs": EPOCHS, "val_score": 0.75}
    write_json(paths.training, {**summary, "val_accuracy": {}})
    made_of = {"data": {"crops.npy": "c" * 64}, "code": "d" * 64, "versions": {"keras": "3.12.0"}}
    write_json(paths.provenance, made_of)
    if not run.suffix and variant != GENDER:
        timing = {"seconds": 10.0 + number, "images_per_second": 100.5}
        write_json(paths.timing, timing)
    curves = paths.curves / "plots/metrics"
    for side, figure, values in (
        ("train", "loss", (0.9, 0.6, 0.5)),
        ("val", "loss", (0.8, 0.7, 0.75)),
        ("val", "score", (0.5, 0.7 + 0.01 * number, 0.6)),
    ):
        curve = pd.DataFrame({"step": range(EPOCHS), figure: values})
        (curves / side).mkdir(parents=True, exist_ok=True)
        curve.to_csv(curves / side / f"{figure}.tsv", sep="\t", index=False)


def leave_searches(params: Params) -> None:
    """A search of which two settings are finished and one has failed, and an ablation."""
    grid = combinations(params, SEARCH)
    done = {grid[0].name: 0.41, grid[9].name: 0.62}
    states = dict.fromkeys(done, "finished") | {grid[1].name: "failed"}
    summaries: dict[str, dict[str, Any]] = {
        name: {"val_score": score, "best_epoch": 2, "epochs": 3, "val_accuracy": {"age": score}}
        for name, score in done.items()
    }
    table = tabulate_search(grid, states, summaries, params.searches[SEARCH].published)
    write_csv(Path(f"data/tuning/{SEARCH}.csv"), table)
    changes = combinations(params, ABLATION)
    summary = {"best_epoch": 2, "epochs": 3, "val_accuracy": {"age": 0.5}}
    scores = {changes[0].name: 0.5, changes[2].name: 0.45}
    summaries = {name: summary | {"val_score": score} for name, score in scores.items()}
    table = tabulate_changes(changes, dict.fromkeys(scores, "finished"), summaries)
    write_csv(Path(f"data/tuning/{ABLATION}.csv"), table)


def write_keras_file(path: Path, tasks: Sequence[str]) -> None:
    """The part of a .keras file that tells its structure, as Keras 3 writes it."""
    layers: list[dict[str, Any]] = [
        _layer("InputLayer", "image", [], batch_shape=[None, SIZE, SIZE, 3]),
        _layer("Rescaling", "unit", ["image"], [None, SIZE, SIZE, 3], trainable=False),
        _layer("Conv2D", "block1_conv1", ["unit"], [None, SIZE, SIZE, 3], trainable=False),
        _layer("Conv2D", "block1_conv2", ["block1_conv1"], [None, SIZE, SIZE, 8], trainable=False),
        _layer("MaxPooling2D", "block1_pool", ["block1_conv2"], trainable=False),
        _layer("Conv2D", "block2_conv1", ["block1_pool"], [None, SIZE // 2, SIZE // 2, 8]),
        _layer("GlobalAveragePooling2D", "pooled", ["block2_conv1"]),
    ]
    for task in tasks:
        units = 2 if task == "gender" else 5
        hidden = f"{task}_hidden"
        layers.append(_layer("Dense", hidden, ["pooled"], units=128, activation="relu"))
        layers.append(_layer("Dense", task, [hidden], units=units, activation="softmax"))
    content = json.dumps({"class_name": "Functional", "config": {"layers": layers}})
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", content)


def _layer(
    kind: str,
    name: str,
    reads: Sequence[str],
    shape: Sequence[int | None] | None = None,
    trainable: bool = True,
    **config: Any,
) -> dict[str, Any]:
    calls = [
        {
            "args": [
                {"class_name": "__keras_tensor__", "config": {"keras_history": [source, 0, 0]}}
                for source in reads
            ]
        }
    ]
    return {
        "class_name": kind,
        "name": name,
        "config": {"name": name, "trainable": trainable, **config},
        "build_config": {"input_shape": shape} if shape else None,
        "inbound_nodes": calls if reads else [],
    }
