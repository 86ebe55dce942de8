"""Forgotten images: known again by their bytes, taken out of tables and crops with their copies."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.commands import forget
from stages.core.errors import UserError
from stages.core.files import digest
from stages.core.paths import CROPS, FORGOTTEN_MODELS, INDEX
from stages.detection.extraction import extract_faces
from stages.detection.forgetting import (
    append_rows,
    fingerprint,
    mentions,
    named,
    read_forgotten,
    remove_crops,
    remove_rows,
    with_copies,
)
from stages.faces.index import Row, read_crops, write_faces
from stages.inference import models
from stages.raw.archives import Member
from tests.settings import detect_settings

SETTINGS = detect_settings(face="score", margin=0.2, size=4, max_pixels=10**6)


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_forgotten_bytes_come_back_under_no_name_and_leave_other_names_alone():
    gone, kept = b"to be forgotten", b"another"
    places = [("a.tar", "x/1.txt", gone), ("a.tar", "y/1.txt", kept), ("b.zip", "z/2.txt", gone)]
    members = [Member(*place) for place in places]
    whole = {row.name for row, _ in extract_faces(members, lambda _: [], SETTINGS, 2)}
    assert whole == {"1.txt", "a.tar/y/1.txt", "2.txt"}
    forgotten = [fingerprint(members[0])]
    left = [row.name for row, _ in extract_faces(members, lambda _: [], SETTINGS, 2, forgotten)]
    assert left == ["a.tar/y/1.txt"], "it does not take the free name"


def test_members_without_bytes_have_no_fingerprint_and_are_never_forgotten():
    link = Member("a.tar", "1.txt", None, "not a plain file")
    assert fingerprint(link) is None
    assert len(list(extract_faces([link], lambda _: [], SETTINGS, 1, {""}))) == 1


def test_names_are_those_of_the_index():
    members = [Member("a.tar", path, b"") for path in ("x/1", "x/1", "y/1", "x/1")]
    assert [name for name, _ in named((member, None) for member in members)] == [
        *("1", "a.tar/x/1", "a.tar/y/1", "a.tar/x/1#2")
    ]


def test_the_copies_of_a_picture_go_with_it():
    split = pd.DataFrame({"name": list("abcd"), "split": "train", "group": [0, 1, 0, 2]})
    assert with_copies(["c", "not cropped"], split) == ["a", "c", "not cropped"]


def test_the_record_grows_and_has_each_image_once(tmp_path: Path):
    path = tmp_path / "images.csv"
    path.write_text("sha256,forgotten_on\n")
    assert read_forgotten(path) == frozenset()
    for prints in (["one"], ["one", "two"]):
        append_rows(path, [{"sha256": p, "forgotten_on": "2026-01-02"} for p in prints])
    assert rows(path)[1:] == [["one", "2026-01-02"], ["two", "2026-01-02"]]
    assert read_forgotten(path) == {"one", "two"}


def test_a_missing_record_is_an_error_and_not_an_empty_one(tmp_path: Path):
    with pytest.raises(UserError, match="git checkout"):
        read_forgotten(tmp_path / "images.csv")


def test_rows_and_crops_are_removed_by_exact_name(tmp_path: Path):
    names = ["1.jpg", "11.jpg", 'a,"b.jpg', "no face"]
    extractions = [
        (Row(name, "a.tar", "cropped"), np.full((4, 4, 3), number, np.uint8))
        for number, name in enumerate(names[:3])
    ]
    index, crops = tmp_path / "index.csv", tmp_path / "crops.npy"
    write_faces([*extractions, (Row("no face", "a.tar", "no_face"), None)], index, crops, 4)
    assert remove_crops(["1.jpg", 'a,"b.jpg', "no face"], index, crops) == 2
    assert remove_rows(["1.jpg", 'a,"b.jpg', "no face"], index) == 3
    assert [row[0] for row in rows(index)] == ["name", "11.jpg"]
    assert read_crops(crops)[:, 0, 0, 0].tolist() == [1]
    assert remove_rows(["1.jpg"], index) == 0


def test_what_was_interrupted_can_be_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names = ["1.jpg", "2.jpg", "3.jpg"]
    extractions = [
        (Row(name, "a.tar", "cropped"), np.full((4, 4, 3), number, np.uint8))
        for number, name in enumerate(names)
    ]
    Path("data/faces").mkdir(parents=True)
    write_faces(extractions, INDEX, CROPS, 4)
    split, predictions = Path("data/split/split.csv"), Path("data/predictions/a.csv")
    for table, columns in ((split, "name,split,group"), (predictions, "name,split,x")):
        table.parent.mkdir()
        table.write_text(f"{columns}\n1.jpg,train,0\n2.jpg,train,0\n3.jpg,train,1\n")
    cache = Path("data/features")
    cache.mkdir()
    monkeypatch.setattr(forget.paths, "TEMPORARY_WORKSPACES", Path("exps"))
    experiment = Path("exps/standalone/tmp1")  # of a `dvc exp run --temp` that was killed
    (experiment / "data/faces").mkdir(parents=True)
    (experiment / "dvc.yaml").touch()
    sheet = Path("data/audit/similar.png")
    sheet.parent.mkdir()
    sheet.touch()
    np.save("data/embeddings.npy", np.zeros((3, 256), np.float16))

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(forget.forgetting, "remove_crops", killed)
        with pytest.raises(KeyboardInterrupt):
            forget.remove(forget.find(["1.jpg"]))
    assert not cache.exists()
    assert not experiment.exists()
    assert rows(predictions)[1:] == [["3.jpg", "train", "1"]]
    found = forget.find(["1.jpg"])
    assert found == ["1.jpg", "2.jpg"], "its copy is still known"
    forget.remove(found)
    assert [row[0] for row in rows(split)] == ["name", "3.jpg"]
    assert [row[0] for row in rows(INDEX)] == ["name", "3.jpg"]
    assert read_crops(CROPS)[:, 0, 0, 0].tolist() == [2]
    assert not sheet.exists(), "it shows their crops"
    assert not Path("data/embeddings.npy").exists(), "it tells who they are"


def test_crops_that_do_not_belong_to_the_index_are_left_alone(tmp_path: Path):
    index, crops = tmp_path / "index.csv", tmp_path / "crops.npy"
    write_faces([], index, crops, 4)
    np.save(crops, np.zeros((2, 4, 4, 3), np.uint8))
    with pytest.raises(UserError, match="2 crops for 0 rows"):
        remove_crops(["1.jpg"], index, crops)


def test_any_other_file_that_names_an_image_is_found(tmp_path: Path):
    page, empty = tmp_path / "page.html", tmp_path / "empty"
    page.write_bytes(b"\xff<img alt=30_0_0_1.jpg>")
    empty.write_bytes(b"")
    assert mentions(["x", "30_0_0_1.jpg"], page)
    assert not mentions(["x"], page)
    assert not mentions(["0_0_1.jpg", "30_0_0_1", "i"], page), "parts of a name are other names"
    assert not mentions(["x"], empty)


def test_opening_a_stale_network_prints_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    network = tmp_path / "model.keras"
    network.write_bytes(b"weights")
    models._warn_if_stale(network, digest(network))
    (tmp_path / "forgotten").mkdir()
    (tmp_path / FORGOTTEN_MODELS).write_text("sha256,run,images\n")
    models._warn_if_stale(network, digest(network))
    assert capsys.readouterr().err == ""
    append_rows(FORGOTTEN_MODELS, [{"sha256": digest(network), "run": "mtl-cnn", "images": 2}])
    models._warn_if_stale(network, digest(network))
    assert "forgotten since; train it again" in capsys.readouterr().err


def test_the_released_model_is_stale_with_the_network_it_was_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "models/mtl-cnn"
    run.mkdir(parents=True)
    FORGOTTEN_MODELS.parent.mkdir()
    FORGOTTEN_MODELS.write_text("sha256,run,images\n")
    (run / "model.keras").write_bytes(b"weights")
    (run / "images.csv").write_text("name,used_for\na.jpg,train\n")
    monkeypatch.setattr(forget, "released_network", lambda: "another")
    forget.mark_stale(["a.jpg"])
    told = capsys.readouterr().err
    assert "stale: mtl-cnn was trained on 1 of them" in told
    assert "make release" not in told
    monkeypatch.setattr(forget, "released_network", lambda: digest(run / "model.keras"))
    forget.mark_stale(["a.jpg"])
    assert "made from it; make release NAME=mtl-cnn" in capsys.readouterr().err
    row = {"sha256": models.released_network(), "run": "mtl-mobilenet-160", "images": 1}
    models.open_model(models.RELEASED)
    assert "warning" not in capsys.readouterr().err
    append_rows(FORGOTTEN_MODELS, [row])
    models.open_model(models.RELEASED)
    assert "forgotten since; train it again" in capsys.readouterr().err
