"""A suite of two variants as real DVC experiments: queued once, run by two workers, compared."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from stages.acquisition.demo import write_demo
from stages.comparison.table import read_published
from tests.released import write_released

pytestmark = pytest.mark.long

Run = Callable[..., str]

SUITE = (sys.executable, "-m", "stages.commands", "suite")
VARIANTS = ("mtl-cnn", "mtl-cnn-ge")
# In place of a training that ends for want of memory: one of the two, until it is let.
FAILING = """    import pathlib

    if plan.run == "mtl-cnn-ge" and not pathlib.Path("{allowed}").exists():
        raise MemoryError
"""
# Published variants, each with weights that are not on every machine.
UNAVAILABLE = {
    "mtl-vgg16-vggface-frozen": ("vgg16", "vggface"),
    "mtl-vgg19-imagenet-block5": ("vgg19", "imagenet"),
    "mtl-resnet50-imagenet-frozen": ("resnet50", "imagenet"),
    "mtl-densenet121-imagenet-frozen": ("densenet121", "imagenet"),
}
BEGIN = "    params = load_params()\n"


@pytest.fixture(scope="module")
def run(
    copy_project: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """Run a command in a copy of the project that is reproduced as far as the lists."""
    project = tmp_path_factory.mktemp("suite") / "project"
    failing = FAILING.format(allowed=project / "data/allowed")
    edits = {
        "params.yaml": {"portraits: 300": "portraits: 60", "max_epochs: 6": "max_epochs: 1"},
        "stages/train.py": {BEGIN: BEGIN + failing},
    }
    yield copy_project(project, edits, "dvc repro lists")
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(project):
                process.kill()
        except psutil.Error:
            continue


@pytest.fixture(scope="module")
def stand_ins(copy_project: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a command in a copy on portraits that count as photographs, with random weights."""
    folder = tmp_path_factory.mktemp("stand-ins")
    write_demo(folder / "faces.tar", 60, 1)
    params = {
        "max_epochs: 6": "max_epochs: 1",
        "  source: demo #": "  source: local #",
        "  local: []": f"  local: [{folder / 'faces.tar'}]",
    }
    for backbone, weights in UNAVAILABLE.values():
        key, file = f"{backbone}-{weights}", folder / f"{backbone}-{weights}.h5"
        write_released(file, backbone, weights)
        params[f"  {key}: auto"] = f"  {key}: {file}"
    return copy_project(folder / "project", {"params.yaml": params}, "dvc repro lists")


def _project(run: Run) -> Path:
    return run.project  # type: ignore[attr-defined]


def _states(run: Run) -> dict[str, str]:
    run(*SUITE, "table", *VARIANTS)
    with (_project(run) / "data/suite.csv").open() as file:
        return {row["variant"]: row["state"] for row in csv.DictReader(file)}


def test_all_published_variants_are_known_before_any_is_queued(run: Run) -> None:
    assert "suite: 29 not queued" in run(*SUITE, "table")
    assert "unknown variant 'mtl-cn'; did you mean 'mtl-cnn'?" in run(
        *SUITE, "queue", "mtl-cn", fails=True
    )
    assert "no variant of the suite is finished" in run(*SUITE, "compare", *VARIANTS, fails=True)


def test_each_variant_is_queued_once_and_two_workers_run_them(run: Run) -> None:
    assert "suite: 2 of 2 variants queued\n" in run(*SUITE, "queue", *VARIANTS)
    assert "suite: 0 of 2 variants queued; 2 queued" in run(*SUITE, "queue", *VARIANTS)
    assert run("git", "status", "--porcelain") == ""
    run(sys.executable, "-m", "stages.commands", "tune", "run", "--jobs", "2")
    assert _states(run) == {"mtl-cnn": "finished", "mtl-cnn-ge": "failed"}


def test_only_what_failed_is_queued_again(run: Run) -> None:
    (_project(run) / "data/allowed").touch()
    assert "1 of 2 variants queued; 1 finished" in run(*SUITE, "queue", *VARIANTS)
    run("dvc", "queue", "start", "-j", "1")  # the same queue, by DVC's own command
    run(sys.executable, "-m", "stages.commands", "tune", "run")  # waits for it
    assert _states(run) == dict.fromkeys(VARIANTS, "finished")
    shown = json.loads(run("dvc", "exp", "show", "--json").split("\n", 1)[0])
    experiments = {e["name"]: e["revs"][0]["data"] for e in shown[1]["experiments"]}
    assert set(experiments) == {f"suite-{variant}" for variant in VARIANTS}
    for variant in VARIANTS:
        metrics = experiments[f"suite-{variant}"]["metrics"][f"metrics/{variant}.json"]["data"]
        assert 0 <= metrics["score"] <= 1


def test_all_that_is_finished_is_compared_without_a_training(run: Run) -> None:
    output = run(*SUITE, "compare", *VARIANTS)
    for variant in VARIANTS:
        assert f"Stage 'train@{variant}' is cached - skipping run" in output
    assert "train mtl-cnn" not in output
    assert "suite: 2 variants compared" in output
    with (_project(run) / "data/comparison/comparison.csv").open() as file:
        assert [row["variant"] for row in csv.DictReader(file)] == list(VARIANTS)
    assert (_project(run) / "report/index.html").is_file()


def test_what_was_finished_with_other_params_does_not_count(run: Run) -> None:
    path = _project(run) / "params.yaml"
    text = path.read_text()
    path.write_text(text.replace("seed: 1 #", "seed: 2 #"))
    try:
        assert _states(run) == dict.fromkeys(VARIANTS, "outdated")
        output = run(*SUITE, "queue", *VARIANTS, fails=True)
        assert "dvc exp remove suite-mtl-cnn suite-mtl-cnn-ge" in output
    finally:
        path.write_text(text)


def test_rows_whose_weights_come_as_files_are_filled_in(stand_ins: Run) -> None:
    stand_ins(*SUITE, "queue", *UNAVAILABLE)
    stand_ins(sys.executable, "-m", "stages.commands", "tune", "run", "--jobs", "2")
    assert "suite: 4 variants compared" in stand_ins(*SUITE, "compare", *UNAVAILABLE)
    comparison = _project(stand_ins) / "data/comparison"
    published = read_published("local").stack()
    with (comparison / "comparison.csv").open() as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    assert list(rows) == list(UNAVAILABLE)
    for row in rows.values():
        assert 0 <= float(row["age_accuracy"]) <= 1
        assert float(row["published_age_accuracy"]) == published[row["variant"], "age_accuracy"]
    missing = (comparison / "comparison.md").read_text().split("| not trained here")[1]
    assert missing.count("| `") == 29 - len(UNAVAILABLE)
    assert not any(f"`{variant}`" in missing for variant in UNAVAILABLE)
