"""Node audit: it ends the run over a leak or a stale model, and over nothing else."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from stages import audit
from stages.acquisition.portraits import draw_portrait
from stages.core.errors import UserError
from stages.core.files import write_csv
from stages.faces.index import Row, write_faces

TOP = Path(__file__).parents[2]
SIZE = 100
TRAIN, VAL, TEST = (
    [f"{side}{i}" for i in range(n)] for side, n in zip("abc", (12, 4, 6), strict=True)
)
PEOPLE = [*TRAIN, *VAL, *TEST]
VARIANT = "mtl-cnn"
PUBLISHED = f"{VARIANT}+published-split"
REPEATED = [(f"- {VARIANT}\n", f"- {VARIANT}\n- {PUBLISHED}\n")]


def encoded(crop):
    return cv2.imdecode(cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], 1)


PLANTED = {
    "copied": lambda crop: crop,
    "re-encoded": encoded,
    "mirrored": lambda crop: crop[:, ::-1],
    "brighter": lambda crop: np.clip(crop.astype(int) + 20, 0, 255).astype(np.uint8),
}


@pytest.fixture(scope="module")
def people():
    generator = np.random.default_rng(3)
    return [draw_portrait(20 + i, i % 2, i % 5, generator, SIZE) for i in range(len(PEOPLE))]


class Workspace:
    """What the audit reads: faces, lists, and the models' own lists, in the current folder."""

    def __init__(self, people):
        self.people = people
        self.params()
        self.faces({})
        self.lists(VARIANT, TRAIN, VAL, TEST)
        self.lists(PUBLISHED, [*TRAIN, *TEST[:3]], VAL, TEST)
        table = pd.read_csv(f"data/lists/{PUBLISHED}.csv")
        write_csv(Path("data/split/published.csv"), table)
        self.model(VARIANT, TRAIN, VAL)
        self.model(PUBLISHED, [*TRAIN, *TEST[:3]], VAL)

    def params(self, *edits):
        text = (TOP / "params.yaml").read_text()
        text = re.sub(r"runs:\n(- .*\n)+", f"runs:\n- {VARIANT}\n", text)
        for old, new in edits:
            assert old in text, f"params.yaml no longer has {old!r}"
            text = text.replace(old, new, 1)
        Path("params.yaml").write_text(text)
        shutil.copy(TOP / "variants.toml", ".")

    def faces(self, further):
        crops = dict(zip(PEOPLE, self.people, strict=True)) | further
        extractions = [
            (Row(name, "x.tar", "cropped", 30, 0, 0), crop) for name, crop in crops.items()
        ]
        write_faces(extractions, Path("data/faces/index.csv"), Path("data/faces/crops.npy"), SIZE)

    def lists(self, run, train, val, test):
        names = sorted({*train, *val, *test})
        sides = {"train": train, "val": val, "test": test}
        columns = {side: np.isin(names, members).astype(int) for side, members in sides.items()}
        file = Path(f"data/lists/{run}.csv")
        write_csv(file, pd.DataFrame({"name": names} | columns))

    def model(self, run, train, val):
        table = [(name, "train") for name in train] + [(name, "val") for name in val]
        file = Path("models") / run / "images.csv"
        write_csv(file, pd.DataFrame(table, columns=["name", "used_for"]))


@pytest.fixture
def workspace(people, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Workspace(people)


@pytest.mark.usefixtures("workspace")
def test_a_clean_run_passes_and_the_published_protocol_is_measured():
    audit.main()
    assert json.loads(Path("metrics/audit.json").read_text()) == {
        "runs": 1,
        "test_images": 6,
        "pairs_checked": 6 * 16,
        "leaks": 0,
        "published_protocol": {
            "test_images": 6,
            "trained_on": 3,
            "trained_on_share": 0.5,
            "copies_trained_on": 0,
            "copies_trained_on_share": 0.0,
        },
    }


@pytest.mark.parametrize("side", ["train", "val"])
@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_copy_of_a_test_image_ends_the_run_with_both_names(workspace, people, kind, side):
    workspace.faces({"planted": PLANTED[kind](people[PEOPLE.index("c2")])})
    train, val = ([*TRAIN, "planted"], VAL) if side == "train" else (TRAIN, [*VAL, "planted"])
    workspace.lists(VARIANT, train, val, TEST)
    workspace.model(VARIANT, train, val)
    with pytest.raises(UserError) as error:
        audit.main()
    assert "mtl-cnn: 1 of its test images were seen in training" in str(error.value)
    assert re.search(rf"'c2': (mirrored )?copy of 'planted' in {side}", str(error.value))
    assert "split.duplicates must find at least what section audit finds" in str(error.value)
    leaks = pd.read_csv("data/audit/leaks.csv")
    assert leaks[["run", "test", "used"]].to_numpy().tolist() == [[VARIANT, "c2", "planted"]]
    assert not Path("metrics/audit.json").exists()


def test_what_the_split_counts_as_a_copy_does_not_matter(workspace, people):
    """Neither a wider threshold of the split nor conflicting groups that are kept."""
    workspace.params(
        ("    max_bits: 8", "    max_bits: 0"),
        ("    min_correlation: 0.95", "    min_correlation: 1.0"),
        ("conflicting: train-only", "conflicting: keep"),
    )
    workspace.faces({"planted": encoded(people[PEOPLE.index("c2")])})
    workspace.lists(VARIANT, [*TRAIN, "planted"], VAL, TEST)
    workspace.model(VARIANT, [*TRAIN, "planted"], VAL)
    with pytest.raises(UserError, match="'c2': copy of 'planted' in train"):
        audit.main()


def test_what_counts_as_a_copy_is_a_param_of_the_audit(workspace, people):
    workspace.params(
        ("audit:\n  max_bits: 8", "audit:\n  max_bits: 0"),
        ("\n  min_correlation: 0.95", "\n  min_correlation: 1.0"),
    )
    workspace.faces({"planted": encoded(people[PEOPLE.index("c2")])})
    workspace.lists(VARIANT, [*TRAIN, "planted"], VAL, TEST)
    workspace.model(VARIANT, [*TRAIN, "planted"], VAL)
    audit.main()


def test_a_model_of_an_earlier_split_ends_the_run_with_what_to_do(workspace):
    workspace.model(VARIANT, [*TRAIN[1:], "c0"], [*VAL, "a0"])
    with pytest.raises(UserError) as error:
        audit.main()
    text = str(error.value)
    assert "models/mtl-cnn/images.csv: 2 images, as 'a0', are not used as" in text
    assert "data/lists/mtl-cnn.csv says: make it anew: `dvc repro -f train@mtl-cnn`" in text
    assert "'c0': same image of 'c0' in train" in text


def test_runs_under_the_published_protocol_are_measured_but_do_not_fail(workspace):
    workspace.params(*REPEATED)
    audit.main()
    runs = pd.read_csv("data/audit/runs.csv").set_index("run")
    assert runs.loc["mtl-cnn+published-split", ["exempt", "seen"]].tolist() == [1, 3]
    assert runs.loc["mtl-cnn", ["exempt", "seen"]].tolist() == [0, 0]
    assert json.loads(Path("metrics/audit.json").read_text())["runs"] == 1


def test_a_stale_model_fails_under_the_published_protocol_too(workspace):
    workspace.params(*REPEATED)
    workspace.model(PUBLISHED, TRAIN, VAL)
    with pytest.raises(UserError, match=r"`dvc repro -f train@mtl-cnn\+published-split`"):
        audit.main()


def test_many_leaks_are_told_in_few_lines(workspace):
    workspace.lists(VARIANT, [*TRAIN, *TEST], [*VAL, *TEST], TEST)
    workspace.model(VARIANT, [*TRAIN, *TEST], [*VAL, *TEST])
    with pytest.raises(UserError, match="6 of its test images") as error:
        audit.main()
    assert str(error.value).count("same image of") == 10
    assert "and 2 more in data/audit/leaks.csv" in str(error.value)
