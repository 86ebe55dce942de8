"""The benchmarks: that turns and ratios are what they say, and that their proofs can fail."""

import subprocess
import sys
import tarfile
import time
from io import BytesIO
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks import detect, detect_resnet50, duplicates, precision, second_embedding
from benchmarks.faces import cut_faces, labelled_members, repeated
from benchmarks.machine import describe_machine, describe_versions, peak_memory
from benchmarks.memory import watch
from benchmarks.random_resnet50 import write_random_resnet50
from benchmarks.scaling import exponent, stream
from benchmarks.side_by_side import compare, prove, take_turns
from stages.acquisition.portraits import draw_portrait
from stages.core.errors import UserError
from stages.core.params import load_params
from stages.evaluation.bootstrap import wilson
from stages.raw.images import decode
from stages.weights.registry import DETECTORS, obtain
from tests.settings import limits

TOP = Path(__file__).parents[2]
LIMITS = limits(10**6, 10**8, 10**4)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawn portraits and a file without labels."""
    path = tmp_path_factory.mktemp("benchmarks") / "drawn.tar.gz"
    random = np.random.default_rng(1)
    with tarfile.open(path, "w:gz") as tar:
        for place, name in enumerate([f"{20 + 9 * i}_{i % 2}_{i % 5}_{i}.jpg" for i in range(6)]):
            buffer = BytesIO()
            portrait = draw_portrait(20 + 9 * place, place % 2, place % 5, random)
            Image.fromarray(portrait).save(buffer, "JPEG", quality=95)
            add(tar, name, buffer.getvalue())
        add(tar, "notes.txt", b"no image")
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, BytesIO(content))


def test_sides_take_turns_and_begin_in_turn():
    order: list[str] = []
    seconds = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [len(each) for each in seconds.values()] == [3, 3]


def test_the_ratio_is_that_of_each_round_and_is_held_against_the_bar():
    line = compare("x", [2.0, 6.0, 4.0], [1.0, 2.0, 4.0], "images/s", at_least=2.0)
    assert line["ratio"] == {"median": 2.0, "low": 1.0, "high": 3.0}
    assert line["met"]
    assert not compare("x", [1.9], [1.0], "s", at_least=2.0)["met"]
    assert compare("x", [1.9], [1.0], "s", at_most=2.0)["met"]
    assert "met" not in compare("x", [1.9], [1.0], "s")


def test_the_interval_of_a_difference_is_over_seeds_and_images():
    chance = np.random.default_rng(0)
    same = (chance.random((1, 500)) < 0.7).astype(float)
    assert precision.difference(same, same)["met"]
    worse = same * (chance.random((1, 500)) < 0.8)
    assert not precision.difference(worse, same)["met"]
    # Two seeds that disagree by so much say nothing yet.
    shifted = np.concatenate([worse, same])
    rival = np.concatenate([same, worse])
    found = precision.difference(shifted, rival)
    assert found["difference"] == 0
    assert found["low"] < -0.1 < 0.1 < found["high"]


def test_what_is_not_equal_is_not_timed():
    with pytest.raises(UserError, match="not equal: boxes"):
        prove(False, "boxes")


def test_a_figure_comes_with_hardware_and_versions():
    assert {"cpu", "cores", "memory_gib"} <= set(describe_machine())
    assert {"python", "tensorflow", "onnxruntime"} <= set(describe_versions())


def _fresh_pages(size: int) -> np.ndarray:
    """Memory from the system, never what tests before this one gave back to the process."""
    pages = mmap(-1, size, flags=MAP_PRIVATE | MAP_ANONYMOUS)
    array = np.frombuffer(pages, np.uint8)
    array[:] = 1
    return array


def test_memory_that_is_taken_and_given_back_shows_in_the_peak():
    with peak_memory() as found:
        held = _fresh_pages(30 * 2**20)
        time.sleep(0.3)
        del held
    assert found["peak"] - found["before"] >= 25


def test_memory_of_child_processes_counts():
    take = f"held = bytearray({30 * 2**20}); import time; time.sleep(0.5)"
    with peak_memory() as found:
        subprocess.run([sys.executable, "-c", take], check=True)
    assert found["peak"] - found["before"] >= 25


def test_a_call_that_keeps_memory_is_found_out():
    kept: list[np.ndarray] = []
    found = watch(lambda _: kept.append(_fresh_pages(2**18)), [0], 200)
    assert not found["met"]
    assert found["mib_per_100000_calls"] == pytest.approx(25_000, rel=0.3)
    assert watch(lambda _: None, [0], 200)["met"]


def test_the_exponent_of_a_square_is_two():
    assert exponent([1, 10, 100], [3, 300, 30_000]) == pytest.approx(2)


def test_images_come_again_under_other_paths(archive: Path):
    members = labelled_members(archive, 100, LIMITS)
    assert len(members) == 6
    assert len({member.path for member in repeated(members, 15)}) == 15
    endless = stream(archive, LIMITS)
    paths = [next(endless).path for _ in range(21)]
    assert len(set(paths)) == 21


@pytest.mark.usefixtures("mobilenet_weights")
def test_the_published_loop_finds_and_crops_what_the_stage_does(archive: Path, tmp_path: Path):
    params = load_params(TOP / "params.yaml")
    sides = detect.Sides(labelled_members(archive, 6, LIMITS), params, tmp_path)
    assert sides.prove()[0].startswith("6 of 6")
    sides.network()
    assert len(list((tmp_path / "crops").iterdir())) == 6
    faces = cut_faces(archive, 9, params)
    assert faces.crops.shape == (9, 100, 100, 3)
    np.testing.assert_array_equal(faces.crops[0], faces.crops[6])


def test_the_random_resnet50_gives_retina_face_and_us_the_same_best_boxes(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # The real scale takes seconds an image; the rival's is cut to ours.
    monkeypatch.setattr(detect_resnet50, "SHORT_SIDE", 96)
    monkeypatch.setattr(detect_resnet50, "LONG_SIDE", 96)
    from retinaface.commons import preprocess

    resize = preprocess.resize_image
    monkeypatch.setattr(
        preprocess, "resize_image", lambda image, _, upscale: resize(image, [96, 96], upscale)
    )
    members = labelled_members(archive, 1, LIMITS)
    images = [decode(member.data or b"", 10**6)[20:84, 20:84] for member in members]
    graph = write_random_resnet50(tmp_path / "random.onnx", seed=1)
    obtain(DETECTORS["resnet50"], tmp_path, str(graph), "the test")  # of the published layout
    proven = detect_resnet50.Sides(images, graph).prove()
    assert proven[0] == "faces in the same 1 of 1 images"


def test_the_loop_over_all_pairs_finds_the_pairs_that_the_search_finds():
    random = np.random.default_rng(2)
    portraits = np.stack([draw_portrait(30 + i, i % 2, i % 5, random, size=100) for i in range(12)])
    rule = {"max_bits": 8, "min_correlation": 0.95}
    assert duplicates.prove_equal(portraits, **rule)


def test_what_is_missing_is_told_in_one_line_by_the_process_that_missed_it():
    command = [sys.executable, "-m", "benchmarks.scaling", "--archive", "none.tar", "--stages"]
    done = subprocess.run(
        [*command, "detect", "--sizes", "5"], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "none.tar" in done.stderr
    assert "Traceback" not in done.stderr


def test_copies_are_no_pairs_and_pairs_of_one_person_count_as_one():
    copies = np.array([0, 0, 1, 2, 3, 4])
    ends = {"first": [0, 0, 0, 2, 4], "second": [1, 2, 3, 3, 5]}
    measured = {"similarity": [0.9, 0.7, 0.55, 0.5, 0.35], "distance": [0.1, 0.3, 0.7, 0.5, 0.61]}
    pairs = second_embedding.without_copies(pd.DataFrame(ends | measured), copies)
    assert list(pairs["second"]) == [2, 3, 3, 5]
    lines = second_embedding.bands(pairs, pairs, copies, second_embedding.BANDS)
    assert [(line["from"], line["pairs"]) for line in lines] == [(0.7, 1), (0.5, 2), (0.3, 1)]
    assert (lines[1]["within_0.4"], lines[1]["within_0.5"], lines[1]["within_0.6"]) == (0, 0.5, 0.5)
    # Three pairs of one person and one of another: (3 + 1)² / (3² + 1²) independent ones.
    found = second_embedding.false_pairs(pairs, copies)
    beyond = [0.5, *wilson(0.5, 1.6, 0.95)]
    assert found == {"of": 4, "beyond_0.5": beyond, "beyond_0.6": beyond}


def test_all_pairs_of_the_threshold_are_measured_and_some_of_each_band_below():
    similarity = np.repeat([0.9, 0.5, 0.45, 0.35], [3, 4, 5, 6])
    pairs = pd.DataFrame({"first": range(18), "second": range(18), "similarity": similarity})
    drawn = second_embedding.draw(pairs, (1.01, 0.5, 0.4, 0.3), threshold=0.5, number=2, seed=1)
    numbers = drawn["similarity"].value_counts().to_dict()
    assert numbers == {0.9: 3, 0.5: 4, 0.45: 2, 0.35: 2}


def test_the_threshold_finds_of_the_pairs_of_the_sampled_bands_what_their_samples_say():
    lines = [
        {"from": 0.5, "pairs": 30, "within_0.4": 1.0},
        {"from": 0.4, "pairs": 100, "within_0.4": 0.5},
        {"what": "random, below", "pairs": 10_000, "within_0.4": 0.002},
    ]
    assert second_embedding.recall_of(lines, threshold=0.5) == pytest.approx(0.3)
    assert second_embedding.recall_of(lines, threshold=0.4) == pytest.approx(0.8)
