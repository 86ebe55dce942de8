"""Real DVC in a real git repository: a copy of the project on sixty drawn portraits."""

import base64
import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image
from processes import environment

from stages.core.files import digest
from stages.publishing.dvc_templates import offline_page

TOP = Path(__file__).parents[2]
SMALL = {
    "portraits: 300": "portraits: 60",
    "max_epochs: 6": "max_epochs: 1",
    "- mtl-cnn-ge-gm\n- mtl-cnn-ge-am\n- mtl-vgg16-imagenet-block5\n": "",
}

Run = Callable[..., str]


@pytest.fixture(scope="module")
def run(copy_project: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a command in a committed, reproduced copy of the project; returns its output."""
    project = tmp_path_factory.mktemp("workflow") / "project"
    return copy_project(project, {"params.yaml": SMALL}, "dvc repro")


@pytest.fixture(autouse=True)
def _baseline_again(run: Run) -> Iterator[None]:
    yield
    run("git", "checkout", "-q", "--", ".")
    run("git", "clean", "-qfd")  # metrics of runs that the baseline has not
    run("dvc", "checkout", "-q", "--force")  # over what a failed node left too


def _project(run: Run) -> Path:
    return run.project  # type: ignore[attr-defined]


def _stages_run(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_second_repro_has_nothing_to_do(run: Run) -> None:
    output = run("dvc", "repro")
    assert "up to date" in output
    assert _stages_run(output) == set()
    assert "up to date" in run("dvc", "status")


def test_no_large_file_enters_git(run: Run) -> None:
    tracked = run("git", "ls-files").splitlines()
    assert not [name for name in tracked if name.startswith(("data/", "models/", "report/"))]
    assert "dvc.lock" in tracked
    assert "metrics/mtl-cnn.json" in tracked


def test_every_raw_member_has_one_row_and_every_crop_one_split(run: Run) -> None:
    data = _project(run) / "data"
    rows = list(csv.DictReader((data / "faces/index.csv").open()))
    assert len(rows) == 60 + 9
    assert {row["status"] for row in rows} == {"cropped", "no_face", "unreadable", "bad_label"}
    cropped = [row["name"] for row in rows if row["status"] == "cropped"]
    split = [row["name"] for row in csv.DictReader((data / "split/split.csv").open())]
    assert split == cropped
    predicted = list(csv.DictReader((data / "predictions/mtl-cnn.csv").open()))
    tested = [
        row["name"]
        for row in csv.DictReader((data / "split/split.csv").open())
        if row["split"] == "test"
    ]
    assert [row["name"] for row in predicted] == tested


def test_a_test_crop_is_predicted_as_it_was_evaluated(run: Run, tmp_path: Path) -> None:
    project = _project(run)
    crops = np.load(project / "data/faces/crops.npy")
    index = _rows(project / "data/faces/index.csv")
    cropped = [row["name"] for row in index if row["status"] == "cropped"]
    wanted = _rows(project / "data/predictions/mtl-cnn.csv")
    for number, row in enumerate(wanted):
        crop = Image.fromarray(crops[cropped.index(row["name"])])
        crop.save(tmp_path / f"{number:05}.png")
    command = (
        "python",
        "-m",
        *("stages.commands", "predict"),
        str(tmp_path),
        "--model",
        "models/mtl-cnn",
    )
    run(*command, "--no-detect", "--format", "csv", "--output", str(tmp_path / "found.csv"))
    found = _rows(tmp_path / "found.csv")
    said = [column for column in wanted[0] if "_predicted" in column or "_p_" in column]
    assert len(said) == 15
    assert [[row[c] for c in said] for row in found] == [[row[c] for c in said] for row in wanted]


def test_the_comparison_has_costs_and_paired_tests(run: Run) -> None:
    folder = _project(run) / "data/comparison"
    rows = list(csv.DictReader((folder / "comparison.csv").open()))
    for row in rows:
        assert int(row["parameters"]) > 100_000
        assert float(row["megabytes"]) > 1
        assert float(row["gflops"]) > 0.01
    tests = list(csv.DictReader((folder / "tests.csv").open()))
    assert [row["task"] for row in tests] == ["age", "gender", "race"]
    assert {(row["variant_a"], row["variant_b"]) for row in tests} == {("mtl-cnn", "mtl-cnn-ge")}
    timings = list(csv.DictReader((_project(run) / "data/timings/comparison.csv").open()))
    assert [row["variant"] for row in timings] == ["mtl-cnn", "mtl-cnn-ge"]
    assert "data/timings" not in (_project(run) / "dvc.lock").read_text()


def test_a_learning_rate_reruns_that_variant_alone_and_shows_in_the_diffs(run: Run) -> None:
    before = (_project(run) / "variants.toml").read_text().splitlines()
    output = run("dvc", "exp", "run", "-S", "variants.toml:mtl-cnn.learning_rate=0.1")
    assert _stages_run(output) == {
        *("validate", "plan", "train@mtl-cnn", "evaluate@mtl-cnn", "audit", "compare", "report")
    }

    after = (_project(run) / "variants.toml").read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    ((old, new),) = changed
    assert new == old.replace("learning_rate = 0.001", "learning_rate = 0.1")
    assert new.startswith("mtl-cnn ")

    params = json.loads(run("dvc", "params", "diff", "--json"))["variants.toml"]
    assert list(params) == ["mtl-cnn.learning_rate"]
    assert params["mtl-cnn.learning_rate"]["new"] == 0.1
    metrics = json.loads(run("dvc", "metrics", "diff", "--json"))
    assert set(metrics) == {"metrics/mtl-cnn.json", "data/training/mtl-cnn.json"}
    assert {"age", "gender", "race", "score"} >= set(metrics["metrics/mtl-cnn.json"])
    assert metrics["data/training/mtl-cnn.json"]["val_score"]["diff"] != 0
    shown = run("dvc", "exp", "show", "--csv")
    assert "mtl-cnn.learning_rate" in shown
    assert "metrics/mtl-cnn.json:age" in shown
    assert "data.source" in shown
    assert "runs" in shown


def test_the_notebook_goes_from_the_experiments_to_a_figure(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = ("-S", "evaluate.flip_tta=true")
    run("dvc", "exp", "run", "--name", "both-ways", "evaluate@mtl-cnn", *change)
    notebook = nbformat.read(_project(run) / "notebooks/experiments.ipynb", as_version=4)
    assert len(notebook.cells) == 10
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    committed = [sorted(cell.outputs[-1].data) for cell in codes[1:]]
    monkeypatch.setenv("PATH", environment()["PATH"])
    place = {"metadata": {"path": str(_project(run) / "notebooks")}}
    NotebookClient(notebook, timeout=120, resources=place).execute()
    shown = [cell.outputs[-1].data for cell in codes[1:]]
    assert [sorted(data) for data in shown] == committed, "the committed outputs are of another one"
    for name in ("workspace", "both-ways"):
        assert name in shown[0]["text/plain"]
    table, changes = shown[1]["text/plain"], shown[2]["text/plain"]
    assert "mtl-cnn-ge" in table
    measured = json.loads((_project(run) / "metrics/mtl-cnn.json").read_text())
    told = [float(number) for number in re.findall(r"\d\.\d+", table)]
    assert any(value == pytest.approx(measured["age"], abs=1e-4) for value in told)
    assert "evaluate.flip_tta" in changes
    assert base64.b64decode(shown[3]["image/png"]).startswith(b"\x89PNG")


def test_a_twin_and_the_published_protocol_are_compared_and_a_leak_ends_the_workflow(
    run: Run,
) -> None:
    output = run(
        *("dvc", "exp", "run", "-S"),
        "runs=[mtl-cnn,mtl-cnn+native,mtl-cnn+published-split]",
    )
    assert {
        *("lists", "train@mtl-cnn+native", "evaluate@mtl-cnn+published-split", "audit", "compare")
    } <= _stages_run(output)
    assert not {"split", "train@mtl-cnn", "evaluate@mtl-cnn"} & _stages_run(output)

    project = _project(run)
    published = _rows(project / "data/split/published.csv")
    trained = {row["name"] for row in published if row["train"] == "1"}
    tested = [row["name"] for row in published if row["test"] == "1"]
    predictions = _rows(project / "data/predictions/mtl-cnn+published-split.csv")
    assert [row["name"] for row in predictions] == tested
    assert [row["trained_on"] for row in predictions] == [str(int(n in trained)) for n in tested]
    assert any(name in trained for name in tested)
    honest = _rows(project / "data/predictions/mtl-cnn.csv")
    assert {row["trained_on"] for row in honest} == {"0"}
    row, twin = _rows(project / "data/comparison/comparison.csv")
    assert (row["variant"], twin["variant"]) == ("mtl-cnn", "mtl-cnn+native")
    assert row["age_accuracy"]
    assert twin["age_accuracy"]
    metrics = json.loads(run("dvc", "metrics", "show", "--json"))[""]["data"]
    assert metrics["metrics/mtl-cnn.json"] != metrics["metrics/mtl-cnn+native.json"]
    assert row["rerun_age_accuracy"]
    assert [row["task"] for row in _rows(project / "data/comparison/leakage.csv")] == [
        *("age", "gender", "race")
    ]
    audited = json.loads((project / "metrics/audit.json").read_text())
    assert (audited["runs"], audited["leaks"]) == (2, 0)
    assert audited["published_protocol"]["trained_on"] == len(trained & set(tested))

    images = project / "models/mtl-cnn/images.csv"
    before = images.read_text()
    leaked = honest[0]["name"]
    try:
        images.write_text(f"{before}{leaked},train\n")
        output = run("dvc", "repro", "--single-item", "audit", fails=True)
    finally:
        images.write_text(before)
    assert f"{leaked!r}: same image of {leaked!r} in train" in output
    assert "make it anew: `dvc repro -f train@mtl-cnn`" in output
    assert "Traceback" not in output


def test_a_recipe_reruns_only_the_variants_that_follow_it(run: Run) -> None:
    output = run("dvc", "exp", "run", "-S", "recipes.stl.patience=3")
    assert _stages_run(output) == {"validate", "plan"}


def test_the_margin_reruns_from_detect_on(run: Run) -> None:
    output = run("dvc", "exp", "run", "lists", "-S", "detect.margin=0.1")
    expected = {"validate", "plan", "detect", "embed", "split"}
    assert _stages_run(output) == expected, "the same lists"
    stale = set(json.loads(run("dvc", "status", "--json")))
    assert stale == {
        *("train@mtl-cnn", "train@mtl-cnn-ge", "evaluate@mtl-cnn", "evaluate@mtl-cnn-ge"),
        *("audit", "report"),
    }


def test_a_hand_edit_and_the_comments_outlive_an_experiment_that_changes_lists(run: Run) -> None:
    path = _project(run) / "params.yaml"
    edited = path.read_text().replace("margin: 0.2 ", "margin: 0.25 ")
    path.write_text(edited)
    folder = _project(run).parent / "own"
    folder.mkdir()
    (folder / "1_0_0_20170101.jpg").write_bytes(b"a picture")
    shutil.make_archive(str(folder.with_name("own-too")), "zip", folder)
    run(
        *("dvc", "exp", "run", "download", "-S", "data.source=local"),
        *("-S", f"data.local=[{folder},{folder.with_name('own-too.zip')}]"),
        *("-S", "runs=[mtl-cnn-ge]", "-S", "classes.gender=[man,woman]", "-S", "seed=5"),
    )
    raw = _project(run) / "data/raw"
    assert sorted(path.name for path in raw.iterdir()) == ["SHA256SUMS", "own-too.zip", "own.tar"]
    written = path.read_text()
    assert "margin: 0.25 " in written
    assert "seed: 5 " in written
    assert "runs:\n- mtl-cnn-ge\naverages" in written
    comments = re.compile(r"#.*$", re.MULTILINE)
    assert comments.findall(written) == comments.findall(edited)


@pytest.mark.parametrize(
    ("change", "key", "accepted"),
    [
        ("variants.toml:mtl-cnn.batch_size=0", "toml: mtl-cnn.batch_size", "greater than or equal"),
        # All runs and a misspelt one: DVC itself takes away what left the list.
        (
            "runs=[mtl-cnn,mtl-cnn-ge,mtl-cmn-ge-am]",
            "unknown variant 'mtl-cmn-ge-am'",
            "did you mean 'mtl-cnn-ge-am'",
        ),
        ("split.test=0.3", "split: train + val + test must sum to 1", "not 1.2"),
        ("classes.race=[a,b]", "classes: race must list 5 different names", "one per class"),
    ],
)
def test_bad_params_end_before_any_work_with_one_error(
    run: Run, change: str, key: str, accepted: str
) -> None:
    output = run("dvc", "exp", "run", "-S", change, fails=True)
    assert key in output
    assert accepted in output
    assert output.count("error: params.yaml does not fit") == 1
    assert "Traceback" not in output
    assert run("git", "status", "--porcelain", "metrics") == ""


def test_a_misspelt_param_removes_nothing_and_costs_no_work(run: Run) -> None:
    project = _project(run)
    tops = ("data", "models", "metrics", "report")

    def outputs() -> dict[str, str]:
        files = [path for top in tops for path in (project / top).rglob("*") if path.is_file()]
        return {str(path): digest(path) for path in files if path.name != "valid-params.txt"}

    before, path = outputs(), project / "params.yaml"
    text = path.read_text()
    path.write_text(text.replace("  margin: 0.2 ", "  margn: 0.2 "))
    output = run("dvc", "repro", fails=True)
    assert "detect.margn: unknown name; did you mean 'margin'?" in output
    assert _stages_run(output) == {"validate"}
    assert outputs() == before
    path.write_text(text)
    output = run("dvc", "repro")
    assert _stages_run(output) == set(), "all is there, or comes from the run cache"
    assert outputs() == before


def test_an_earlier_state_comes_from_the_run_cache(run: Run) -> None:
    path = _project(run) / "params.yaml"
    text = path.read_text()
    path.write_text(text.replace("  margin: 0.2 ", "  margin: 0.15 "))
    assert "detect" in _stages_run(run("dvc", "repro", "split"))
    path.write_text(text)
    output = run("dvc", "repro", "split")
    assert "Stage 'detect' is cached - skipping run" in output
    assert _stages_run(output) == set()


def test_an_outsider_recomputes_every_figure_from_predictions_and_split_alone(
    run: Run, tmp_path: Path
) -> None:
    project = _project(run)
    files = {"--predictions": "mtl-cnn.csv", "--val-predictions": "mtl-cnn.val.csv"}
    for name in files.values():
        shutil.copy(project / "data/predictions" / name, tmp_path)
    for name in ("data/split/split.csv", "params.yaml", "variants.toml"):
        shutil.copy(project / name, tmp_path)
    command = (
        f"import runpy, sys; sys.path.insert(0, {str(TOP)!r}); "
        "sys.modules |= {'tensorflow': None, 'keras': None}; "
        "sys.argv.insert(1, 'score'); runpy.run_module('stages.commands', run_name='__main__')"
    )
    options = [word for option in files.items() for word in option]
    options += ["--split", "split.csv", "--output", "again"]
    subprocess.run([sys.executable, "-c", command, *options], cwd=tmp_path, check=True)

    again = {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    folder = project / "data/evaluation/mtl-cnn"
    theirs = json.loads((folder / "calibration.json").read_bytes())
    # Whether the outputs are means with the flipped image stands in no prediction file.
    assert json.loads(again["calibration.json"]) == theirs | {"flip_tta": None}
    again["calibration.json"] = (folder / "calibration.json").read_bytes()
    assert again == {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "costs.json"}
    assert len(again) == 10


def test_the_plots_are_curves_costs_and_confusion_matrices_in_this_order(run: Run) -> None:
    run("dvc", "plots", "show", "-o", "rendered")
    page = (_project(run) / "rendered/index.html").read_text()
    shutil.rmtree(_project(run) / "rendered")
    titles = ("Learning curves", "Validation accuracy over training cost", "Confusion matrices of")
    places = [page.index(title) for title in titles]
    assert places == sorted(places)
    offline = _project(run) / "offline.html"
    offline.write_text(offline_page(), encoding="utf-8")
    run("dvc", "plots", "show", "-o", "rendered", "--html-template", "offline.html")
    page = (_project(run) / "rendered/index.html").read_text()
    shutil.rmtree(_project(run) / "rendered")
    offline.unlink()
    assert "Learning curves" in page
    assert "<script src=" not in page, "it needs a network"


def test_a_forgotten_image_is_gone_for_good_and_what_learnt_from_it_is_stale(run: Run) -> None:
    project = _project(run)
    used = _rows(project / "models/mtl-cnn/images.csv")
    name = next(row["name"] for row in used if row["used_for"] == "train")
    networks = {v: digest(project / f"models/{v}/model.keras") for v in ("mtl-cnn", "mtl-cnn-ge")}
    crops = len(np.load(project / "data/faces/crops.npy"))
    forget = (sys.executable, "-m", "stages.commands", "forget")
    assert "did you mean" in run(*forget, f"{name}x", fails=True)
    assert run("git", "status", "--porcelain", "forgotten") == ""

    output = run(*forget, name)
    assert "stale: mtl-cnn was trained on 1 of them" in output
    outputs = [p for top in ("data", "models") for p in (project / top).rglob("*") if p.is_file()]
    left = [p for p in outputs if name.encode() in p.read_bytes()]
    assert {p.parent.name for p in left} == {"raw"}
    assert len(np.load(project / "data/faces/crops.npy")) == crops - 1
    stale = _rows(project / "forgotten/models.csv")
    assert {row["run"]: row["sha256"] for row in stale} == networks
    assert name not in (project / "forgotten/images.csv").read_text()

    output = run("dvc", "repro", "lists")
    assert {"detect", "split", "lists"} <= _stages_run(output)
    assert name not in (project / "data/faces/index.csv").read_text()
    assert len(np.load(project / "data/faces/crops.npy")) == crops - 1
    assert json.loads((project / "metrics/detect.json").read_text())["forgotten"] == 1
    assert {"train@mtl-cnn", "train@mtl-cnn-ge"} <= set(json.loads(run("dvc", "status", "--json")))
