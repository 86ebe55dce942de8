"""What a trained model is asked by the command `predict`, and what it answers."""

import io
import json
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.acquisition.portraits import draw_background, draw_portrait
from stages.commands import predict
from stages.core.errors import UserError
from stages.core.files import write_csv
from stages.core.sections import TASKS
from stages.detection.extraction import extract_faces
from stages.evaluation.predictions import prediction_table
from stages.faces.labels import parse_name
from stages.inference.face_extraction import MAX_PIXELS, face_extractor
from stages.inference.inputs import LIMITS, read_inputs
from stages.inference.models import open_detector, open_model
from stages.inference.writers import annotate
from stages.networks.input_spec import read_input_spec
from stages.networks.network import load_network
from stages.networks.prediction import BATCH_SIZE, predict_rows
from stages.raw.archives import read_members
from tests.settings import detect_settings

NAMES = ("30_1_2_1.png", "70_0_1_2.png", "6_0_0_3.png", "45_1_3_4.png", "20_0_4_5.png")

Predict = Callable[..., tuple[int, str]]


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def portraits() -> dict[str, np.ndarray]:
    generator, found = np.random.default_rng(4), {}
    for name in NAMES:
        labels = parse_name(name)
        found[name] = draw_portrait(labels.age, labels.gender, labels.race, generator)
    return found


@pytest.fixture
def ask(
    small_model: Path,
    mobilenet_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Predict:
    """Run the command in an empty folder; its exit status and standard output."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, model: Path = small_model) -> tuple[int, str]:
        words = ["predict", "--model", str(model), "--detector", str(mobilenet_weights), *arguments]
        monkeypatch.setattr(sys, "argv", words)
        status = 0
        try:
            predict.main()
        except SystemExit as end:
            status = int(end.code or 0)
        return status, capsys.readouterr().out

    return run


def records(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_face_is_cut_as_stage_detect_cuts_it(
    small_model: Path, mobilenet_weights: Path, portraits: dict, tmp_path: Path
):
    archive = tmp_path / "a.tar"
    generator = np.random.default_rng(9)
    with tarfile.open(archive, "w") as file:
        for i, name in enumerate(NAMES):
            pair = np.concatenate([portraits[name], portraits[NAMES[i - 1]]], axis=1)
            for member, pixels in ((name, portraits[name]), (f"1_0_0_{i}.png", pair)):
                data = png(pixels[: generator.integers(150, 201)])
                info = tarfile.TarInfo(member)
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
    model = open_model(small_model)
    detector = open_detector(model, mobilenet_weights)
    settings = detect_settings(**dict(model.input_spec.detect), max_pixels=MAX_PIXELS)
    detected = list(extract_faces(read_members(archive, LIMITS), detector, settings, 2))
    one, every = (face_extractor(model.input_spec, detector, e) for e in (False, True))
    assert len(detected) == 10
    for member, (row, crop) in zip(read_members(archive, LIMITS), detected, strict=True):
        (face,) = one(member).faces
        assert face.box == (row.x1, row.y1, row.x2, row.y2)
        assert round(face.score, 6) == row.score
        np.testing.assert_array_equal(face.crop, crop)
        scores = [found.score for found in every(member).faces]
        assert len(scores) == row.faces_found
        assert scores == sorted(scores, reverse=True)


def test_crops_in_batches_as_stage_evaluate_has_them_give_its_very_figures(
    ask: Predict, small_model: Path, tmp_path: Path
):
    crops = np.random.default_rng(2).integers(0, 256, (BATCH_SIZE + 6, 100, 100, 3), np.uint8)
    names = [f"{i:03}.png" for i in range(len(crops))]
    (tmp_path / "crops").mkdir()
    for name, crop in zip(names, crops, strict=True):
        (tmp_path / "crops" / name).write_bytes(png(crop))
    classes = {task: read_input_spec(small_model).classes.of(task) for task in TASKS}
    network, rows = load_network(small_model / "model.keras"), np.arange(len(crops))

    def both(mirrored: bool, *flags: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """What stage evaluate writes, and what the command writes."""
        outputs = predict_rows(network, crops, rows, BATCH_SIZE, mirrored)
        labels = dict.fromkeys(classes, np.zeros(len(crops), int))
        write_csv(Path("p.csv"), prediction_table(names, labels, outputs, classes, rows))
        wanted = pd.read_csv("p.csv", dtype=str).drop(columns=[f"{task}_true" for task in TASKS])
        status, text = ask("crops", "--no-detect", "--format", "csv", *flags)
        found = pd.read_csv(io.StringIO(text), dtype=str)
        assert (status, list(found["image"])) == (0, [f"crops/{name}" for name in names])
        columns = list(wanted.columns[1:])
        return wanted[columns], found[columns]

    wanted, found = both(False)
    pd.testing.assert_frame_equal(found, wanted)
    # In other batches float32 sums come in another order.
    wanted, found = (t.filter(like="_p_") for t in both(True, "--flip-tta", "--batch-size", "5"))
    np.testing.assert_allclose(found.astype(float), wanted.astype(float), atol=1e-5)


def test_an_unreadable_input_is_reported_in_its_place_and_stops_nothing(
    ask: Predict, portraits: dict, tmp_path: Path
):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.png").write_bytes(png(portraits[NAMES[0]]))
    (folder / "b.jpg").write_bytes(b"no image")
    (folder / "c.png").write_bytes(png(draw_background(np.random.default_rng(1))))
    (folder / ".hidden").write_bytes(b"")
    with zipfile.ZipFile(folder / "sub/d.zip", "w") as archive:
        archive.writestr("x/e.png", png(portraits[NAMES[1]]))
    with tarfile.open(folder / "z.tar.gz", "w:gz") as archive:
        archive.add(folder / "a.png", "f.png")
    whole = (folder / "z.tar.gz").read_bytes()
    (folder / "z.tar.gz").write_bytes(whole[: len(whole) // 2])
    status, text = ask("gone.jpg", "in", "in/a.png")
    assert status == predict.SOME_UNREADABLE
    found = [(r["image"], r["status"], len(r["faces"])) for r in records(text)]
    assert found == [
        ("gone.jpg", "unreadable", 0),
        ("in/a.png", "predicted", 1),
        ("in/b.jpg", "unreadable", 0),
        ("in/c.png", "no_face", 0),
        ("in/sub/d.zip/x/e.png", "predicted", 1),
        ("in/z.tar.gz", "unreadable", 0),
        ("in/a.png", "predicted", 1),
    ]
    reasons = {r["image"]: r["reason"] for r in records(text)}
    assert reasons["gone.jpg"] == "No such file or directory"
    assert reasons["in/b.jpg"] == "not an image"
    assert reasons["in/c.png"] == "no face above the threshold"
    assert reasons["in/z.tar.gz"].startswith("damaged")
    _, text = ask("gone.jpg", "in", "in/a.png", "--format", "csv")
    rows = pd.read_csv(io.StringIO(text))
    assert list(rows["image"]) == [image for image, _, _ in found]
    assert list(rows["face"].fillna(0)) == [0, 1, 0, 0, 1, 0, 1]


def test_a_folder_that_cannot_be_read_does_not_cost_the_others(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"data")
    place = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):  # longer than a path may be
        os.mkdir("x" * 250, dir_fd=place)
        above, place = place, os.open("x" * 250, os.O_RDONLY, dir_fd=place)
        os.close(above)
    os.close(place)
    first, last = read_inputs([str(tmp_path)], LIMITS, io.BytesIO())
    assert (first.path, first.data) == (str(tmp_path / "a.png"), b"data")
    assert (last.data, last.problem) == (None, "cannot be read: File name too long")


def test_an_empty_name_is_not_the_working_directory(ask: Predict):
    with pytest.raises(UserError, match="'': an empty name"):
        ask("")


def test_every_face_of_a_piped_picture_is_listed_by_decreasing_score(
    ask: Predict, portraits: dict, monkeypatch: pytest.MonkeyPatch
):
    data = png(np.concatenate([portraits[name] for name in NAMES[:3]], axis=1))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    status, text = ask("--faces", "all")
    (record,) = records(text)
    assert (status, record["image"], record["width"]) == (0, "-", 600)
    scores = [face["score"] for face in record["faces"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert sorted(face["box"][0] // 200 for face in record["faces"]) == [0, 1, 2]
    for face in record["faces"]:
        for task in ("age", "gender", "race"):
            chances = face[task]["probabilities"]
            assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
            assert chances[face[task]["class"]] == max(chances.values())


def test_calibrated_probabilities_follow_the_temperatures_of_the_run(
    ask: Predict, portraits: dict, tmp_path: Path
):
    (tmp_path / "a.png").write_bytes(png(portraits[NAMES[0]]))
    plain, warm = (
        records(ask("a.png", *flags)[1])[0]["faces"][0] for flags in ((), ("--calibrated",))
    )
    for task, temperature in {"age": 2.0, "gender": 0.5, "race": 1.25}.items():
        powers = np.array(list(plain[task]["probabilities"].values())) ** (1 / temperature)
        found = list(warm[task]["probabilities"].values())
        np.testing.assert_allclose(found, powers / powers.sum(), atol=1e-5)
        assert warm[task]["class"] == plain[task]["class"]


def test_temperatures_of_mirrored_outputs_go_with_mirrored_outputs_only(
    ask: Predict, portraits: dict, small_model: Path, tmp_path: Path
):
    (tmp_path / "a.png").write_bytes(png(portraits[NAMES[0]]))
    shutil.copytree(small_model.parents[1], tmp_path, dirs_exist_ok=True)
    ask = partial(ask, model=tmp_path / "models/small")
    with pytest.raises(UserError, match="hold for outputs without the mirror image; leave out"):
        ask("a.png", "--calibrated", "--flip-tta")
    path = tmp_path / "data/evaluation/small/calibration.json"
    path.write_text(path.read_text().replace("false", "true"))
    with pytest.raises(UserError, match="with the mirror image; add --flip-tta"):
        ask("a.png", "--calibrated")
    assert len(records(ask("a.png", "--calibrated", "--flip-tta")[1])) == 1
    path.write_text('{"age": 1.5}')
    with pytest.raises(UserError, match=r"calibration\.json: flip_tta: Field required"):
        ask("a.png", "--calibrated")


def test_pictures_are_drawn_beside_their_rows(ask: Predict, portraits: dict, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../../up.png", png(portraits[NAMES[0]]))
        archive.writestr("no.png", b"no image")
    status, text = ask("a.zip", "--format", "pictures", "--output", "out")
    assert status == predict.SOME_UNREADABLE
    assert text == "predict: 2 images, 1 faces, 1 unreadable; out\n"
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["00001-up.png.jpg", "predictions.jsonl"]
    read, unread = records((out / "predictions.jsonl").read_text())
    assert unread["reason"] == "not an image"
    drawn = np.asarray(Image.open(out / "00001-up.png.jpg").convert("RGB")).astype(int)
    x1, y1, x2, y2 = read["faces"][0]["box"]
    changed = np.abs(drawn[:200] - portraits[NAMES[0]]).max(axis=2) > 60
    assert changed[y1, x1:x2].mean() > 0.8  # the box's upper edge
    assert not changed[:, : x1 - 30].any()
    assert not changed[y1 + 8 : y2 - 8, x1 + 8 : x2 - 8].any(), "a label covers the face"
    below = drawn[200:]
    assert len(below) >= 15
    assert (below < 100).any(), "the classes stand there"


@pytest.mark.parametrize("side", [60, 200, 1000])
def test_labels_stand_below_the_picture_whatever_its_size(side: int):
    face = {
        "score": 0.9,
        "box": [0, 0, side // 2, side // 2],
        "age": {"class": "26-40", "probabilities": {"26-40": 0.71}},
        "gender": {"class": "female", "probabilities": {"female": 0.98}},
    }
    pixels = np.full((side, side, 3), 128, np.uint8)
    one, two = (annotate(pixels, {"faces": [face] * n}) for n in (1, 2))
    assert (one.width, two.width) == (side, side)
    assert side < one.height < two.height
    inside = np.asarray(one)[
        side // 30 + 8 : side // 2 - side // 30 - 8, side // 30 + 8 : side // 3
    ]
    assert (inside == 128).all()


@pytest.mark.parametrize(
    "fault", ["no model", "no preprocessor_config.json", "another size", "other weights"]
)
def test_a_model_that_cannot_be_fed_rightly_is_refused(
    fault: str, ask: Predict, small_model: Path, tmp_path: Path
):
    folder = tmp_path / "models/copy"
    folder.mkdir(parents=True)
    arguments, wanted = ["x.jpg"], {"no model": "no model; .* available: released"}.get(fault, "")
    if fault != "no model":
        (folder / "model.keras").write_bytes((small_model / "model.keras").read_bytes())
        wanted = "preprocessor_config.json: missing"
    if fault in ("another size", "other weights"):
        input_spec = json.loads((small_model / "preprocessor_config.json").read_text())
        input_spec["detect"]["size"] = 64 if fault == "another size" else 100
        (folder / "preprocessor_config.json").write_text(json.dumps(input_spec))
        wanted = "takes 100 px, but its input spec says 64 px"
    if fault == "other weights":
        (tmp_path / "other.onnx").write_bytes(b"something else")
        arguments += ["--detector", str(tmp_path / "other.onnx")]
        wanted = "is not retinaface-mobilenet0.25.onnx, which copy was trained with"
    with pytest.raises(UserError, match=wanted):
        ask(*arguments, model=folder)
