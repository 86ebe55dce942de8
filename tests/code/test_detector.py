"""The real MobileNet detector on drawn portraits, and retina-face's decoding of a small graph."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.acquisition.portraits import draw_background, draw_portrait
from stages.core.errors import UserError
from stages.core.sections import Detect, Scale
from stages.detection.detector import MIN_SIZE, load_detector, providers, scale_factor
from tests.settings import NATIVE, detect_settings

UPSCALED = Scale(upscale=True, short_side=512, long_side=1980)
THRESHOLD = 0.9


def load(name, weights, threshold, scale):
    settings = detect_settings(detector=name, score_threshold=threshold, scale=scale)
    return load_detector(settings, weights)


@pytest.fixture(scope="module")
def detector(mobilenet_weights):
    return load("mobilenet0.25", mobilenet_weights, THRESHOLD, NATIVE)


@pytest.fixture(scope="module")
def portraits():
    generator = np.random.default_rng(5)
    labels = [(4, 0, 0), (20, 1, 1), (35, 0, 2), (50, 1, 3), (65, 0, 4), (90, 1, 0)]
    return [draw_portrait(*label, generator) for label in labels]


def box(face):
    return np.array([face.x1, face.y1, face.x2, face.y2])


def overlap(first, second):
    """Intersection over union of two boxes (x1, y1, x2, y2)."""
    shared = np.prod(
        np.clip(np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2]), 0, None)
    )
    areas = [np.prod(each[2:] - each[:2]) for each in (first, second)]
    return shared / (sum(areas) - shared)


def test_a_drawn_portrait_is_found_with_its_box_on_the_face(detector, portraits):
    for portrait in portraits:
        (face,) = detector(portrait)
        assert THRESHOLD <= face.score <= 1
        # Faces are drawn about the middle of 200 pixels, half as wide as the picture.
        assert overlap(box(face), np.array([58, 53, 140, 157])) > 0.6


def test_a_box_follows_its_face_to_another_place(detector, portraits):
    scene = np.full((400, 500, 3), 128, np.uint8)
    scene[150:350, 250:450] = portraits[2]
    (alone,), (placed,) = detector(portraits[2]), detector(scene)
    assert overlap(box(placed) - [250, 150, 250, 150], box(alone)) > 0.8


def test_two_people_are_two_faces(detector, portraits):
    faces = detector(np.concatenate([portraits[1], portraits[4]], axis=1))
    left, right = sorted(face.x1 for face in faces)
    assert left < 100 < 200 < right


def test_a_background_has_no_face(detector):
    generator = np.random.default_rng(7)
    assert [detector(draw_background(generator)) for _ in range(20)] == [[]] * 20


def test_the_network_is_given_bgr_without_the_means_of_its_training(
    detector, mobilenet_weights, portraits
):
    session = onnxruntime.InferenceSession(str(mobilenet_weights))
    for portrait in portraits:
        blue_first = portrait[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
        planes = np.ascontiguousarray(blue_first.transpose(2, 0, 1)[np.newaxis])
        (scores,) = session.run(["conf"], {"input": planes})
        assert detector(portrait)[0].score == pytest.approx(scores[0, :, 1].max(), abs=1e-5)


def published_box(index, deltas, height, width):
    """Decode one anchor step by step, as Pytorch_Retinaface's PriorBox and decode do."""
    anchors = [
        (column + 0.5, row + 0.5, stride, side)
        for stride, sides in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
        for row in range(-(-height // stride))
        for column in range(-(-width // stride))
        for side in sides
    ]
    column, row, stride, side = anchors[index]
    x, y = column * stride + 0.1 * deltas[0] * side, row * stride + 0.1 * deltas[1] * side
    across, down = side * np.exp(0.2 * deltas[2]), side * np.exp(0.2 * deltas[3])
    return np.array([x - across / 2, y - down / 2, x + across / 2, y + down / 2])


@pytest.mark.parametrize(("height", "width"), [(200, 200), (197, 185)])
def test_the_best_box_is_the_one_that_the_published_code_decodes(
    height, width, detector, mobilenet_weights, portraits
):
    session = onnxruntime.InferenceSession(str(mobilenet_weights))
    for portrait in portraits:
        image = np.ascontiguousarray(portrait[:height, :width])
        blue_first = image[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
        planes = np.ascontiguousarray(blue_first.transpose(2, 0, 1)[np.newaxis])
        deltas, scores = session.run(["loc", "conf"], {"input": planes})
        best = int(scores[0, :, 1].argmax())
        expected = published_box(best, deltas[0, best], height, width)
        assert np.abs(box(detector(image)[0]) - expected).max() < 0.05


def test_the_threshold_keeps_exactly_the_faces_at_or_above_it(mobilenet_weights, portraits):
    scene = np.concatenate(portraits, axis=1)
    every = load("mobilenet0.25", mobilenet_weights, 0.05, NATIVE)(scene)
    scores = sorted(face.score for face in every)
    threshold = (scores[len(scores) // 2] + scores[len(scores) // 2 - 1]) / 2
    kept = load("mobilenet0.25", mobilenet_weights, threshold, NATIVE)(scene)
    assert len(kept) == len(scores) - len(scores) // 2
    assert sorted(face.score for face in kept) == scores[len(scores) // 2 :]


@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (7, 500), (500, 7), (31, 33), (199, 201), (1, 4500), (4500, 1), (32, 32)],
)
@pytest.mark.parametrize("scale", [NATIVE, Scale(upscale=True, short_side=256, long_side=512)])
def test_no_size_of_image_is_too_odd(height, width, scale, mobilenet_weights):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    found = load("mobilenet0.25", mobilenet_weights, 0.02, scale)(image)
    for face in found:  # at so low a threshold some noise counts as a face
        assert 0 <= face.x1 < face.x2 <= width
        assert 0 <= face.y1 < face.y2 <= height


@pytest.mark.parametrize(("height", "width"), [(199, 201), (187, 200), (200, 161), (193, 177)])
def test_a_face_is_found_at_sizes_that_no_stride_divides(height, width, detector, portraits):
    (whole,) = detector(portraits[2])
    (face,) = detector(np.pad(portraits[2], ((0, 1), (0, 1), (0, 0)), "edge")[:height, :width])
    assert overlap(box(face), box(whole)) > 0.85


def test_boxes_lie_in_the_image_even_if_the_face_does_not(mobilenet_weights, portraits):
    detect = load("mobilenet0.25", mobilenet_weights, 0.3, NATIVE)
    found = 0
    for portrait in portraits:
        for part in (portrait[70:140, 70:130], portrait[:, 75:], portrait[:125]):
            for face in detect(np.ascontiguousarray(part)):
                found += 1
                assert 0 <= face.x1 < face.x2 <= part.shape[1]
                assert 0 <= face.y1 < face.y2 <= part.shape[0]
    assert found


def test_upscaled_and_native_boxes_agree_within_a_few_pixels(
    detector, mobilenet_weights, portraits
):
    upscaled = load("mobilenet0.25", mobilenet_weights, THRESHOLD, UPSCALED)
    for portrait in portraits:
        (native,), (large,) = detector(portrait), upscaled(portrait)
        assert np.abs(box(native) - box(large)).max() < 10


def test_a_downscaled_picture_gives_boxes_in_its_own_pixels(mobilenet_weights, portraits):
    small = Scale(upscale=False, short_side=200, long_side=400)
    detect = load("mobilenet0.25", mobilenet_weights, THRESHOLD, small)
    (native,) = detect(portraits[2])
    (large,) = detect(portraits[2].repeat(3, axis=0).repeat(3, axis=1))
    assert np.abs(box(large) / 3 - box(native)).max() < 3


@pytest.mark.parametrize(
    ("upscale", "size", "factor"),
    [
        (True, (200, 200), 5.12),  # as retina-face does: the short side to 1024
        (True, (200, 800), 1980 / 800),  # unless the long side would pass 1980
        (True, (800, 200), 1980 / 800),
        (True, (2048, 2048), 0.5),
        (False, (200, 200), 1.0),
        (False, (1024, 1980), 1.0),
        (False, (2048, 2048), 0.5),
        (False, (500, 3960), 0.5),
        (False, (3960, 500), 0.5),
    ],
)
def test_the_scale_policy_bounds_both_sides_and_upscales_only_if_set(upscale, size, factor):
    assert scale_factor(
        Scale(upscale=upscale, short_side=1024, long_side=1980), *size
    ) == pytest.approx(factor)


def test_concurrent_calls_equal_serial_ones(detector, portraits):
    images = [*portraits, *(portrait[:160, 10:190].copy() for portrait in portraits)] * 4
    serial = [detector(image) for image in images]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(detector, images)) == serial


def test_the_image_is_not_modified(detector, portraits):
    before = portraits[0].copy()
    detector(portraits[0])
    np.testing.assert_array_equal(portraits[0], before)


def test_an_unknown_name_is_an_error_that_lists_the_known_ones():
    settings = dict(detect_settings()) | {"detector": "yolo"}
    with pytest.raises(ValueError, match=r"'mobilenet0\.25' or 'resnet50'.*'yolo'"):
        Detect.model_validate(settings)


@pytest.mark.parametrize("name", ["mobilenet0.25", "resnet50"])
def test_weights_that_are_missing_or_damaged_are_named(name, tmp_path):
    path = tmp_path / "weights.onnx"
    with pytest.raises(UserError, match=r"weights\.onnx: missing; run `dvc repro pretrained`"):
        load(name, path, THRESHOLD, NATIVE)
    path.write_bytes(b"no network")
    with pytest.raises(UserError, match=r"weights\.onnx: no ONNX file.*dvc repro -f pretrained"):
        load(name, path, THRESHOLD, NATIVE)


# --- resnet50 through retina-face -------------------------------------------------------


def one_by_one_graph(path: Path) -> Path:
    """Write a graph with retina-face's input and outputs, each of one random convolution.

    Strided like the real one, so that boxes, scores and their places follow the image.
    """
    generator = np.random.default_rng(3)
    nodes = [helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2])]
    weights, outputs = [], []
    for stride in (32, 16, 8):
        for kind, channels in (("scores", 4), ("boxes", 8), ("landmarks", 20)):
            name = f"{kind}{stride}"
            kernel = generator.normal(0, 1, (channels, 3, stride, stride)) / stride / 255
            weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"{name}_kernel"))
            nodes.append(
                helper.make_node(
                    "Conv",
                    ["planes", f"{name}_kernel"],
                    [f"{name}_planes"],
                    strides=[stride, stride],
                    auto_pad="SAME_UPPER",
                )
            )
            last = f"{name}_planes"
            if kind == "scores":
                nodes.append(helper.make_node("Sigmoid", [last], [f"{name}_shares"]))
                last = f"{name}_shares"
            nodes.append(helper.make_node("Transpose", [last], [name], perm=[0, 2, 3, 1]))
            shape = [1, None, None, channels]
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, None, None, 3])
    graph = helper.make_graph(nodes, "small", [image], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def small_resnet(tmp_path_factory):
    return one_by_one_graph(tmp_path_factory.mktemp("resnet") / "small.onnx")


def retinaface_faces(weights, image, threshold, allow_upscaling):
    """What retina-face itself finds, called as its users do: with BGR pixels."""
    os.environ["DEEPFACE_BACKEND_ENGINE"] = "onnx"
    from retinaface import RetinaFace
    from retinaface.model.retinaface_onnx_model import RetinaFace as Network

    return RetinaFace.detect_faces(
        np.ascontiguousarray(image[..., ::-1]),
        threshold=threshold,
        model=Network(onnxruntime.InferenceSession(str(weights))),
        allow_upscaling=allow_upscaling,
    )


@pytest.mark.parametrize(("height", "width"), [(200, 200), (199, 201), (320, 64)])
def test_resnet50_finds_what_retina_face_finds(height, width, small_resnet):
    image = draw_portrait(30, 1, 2, np.random.default_rng(1), size=320)[:height, :width]
    expected = retinaface_faces(small_resnet, image, 0.6, allow_upscaling=False)
    assert len(expected) > 3
    found = load("resnet50", small_resnet, 0.6, NATIVE)(image)
    boxes = [face["facial_area"] for face in expected.values()]
    kept = [i for i, (x1, y1, x2, y2) in enumerate(boxes) if x2 > x1 and y2 > y1]
    scores = [face["score"] for face in expected.values()]
    assert [face.score for face in found] == pytest.approx([scores[i] for i in kept])
    limits = np.array([width, height, width, height])
    np.testing.assert_array_equal(
        [box(face) for face in found], np.minimum([boxes[i] for i in kept], limits)
    )


def test_resnet50_with_upscaling_scales_as_retina_face_does(small_resnet):
    image = draw_portrait(30, 1, 2, np.random.default_rng(1), size=200)
    published = Scale(upscale=True, short_side=1024, long_side=1980)
    expected = retinaface_faces(small_resnet, image, 0.9, allow_upscaling=True)
    found = load("resnet50", small_resnet, 0.9, published)(image)
    assert len(expected) > 3
    best = next(iter(expected.values()))
    assert found[0].score == pytest.approx(best["score"], abs=1e-5)
    assert np.abs(box(found[0]) - best["facial_area"]).max() <= 1  # it cuts off fractions


def test_resnet50_finds_nothing_above_an_unreachable_threshold(small_resnet):
    assert load("resnet50", small_resnet, 1.0, NATIVE)(np.zeros((64, 64, 3), "u1")) == []


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 500), (1, 4500)])
def test_resnet50_takes_odd_sizes(height, width, small_resnet):
    image = np.full((height, width, 3), 200, np.uint8)
    for face in load("resnet50", small_resnet, 0.5, NATIVE)(image):
        assert 0 <= face.x1 < face.x2 <= width
        assert 0 <= face.y1 < face.y2 <= height


def test_a_small_image_is_taken_as_if_its_last_rows_and_columns_went_on(small_resnet):
    detect = load("resnet50", small_resnet, 0.55, NATIVE)
    portrait = draw_portrait(30, 1, 2, np.random.default_rng(1), size=64)
    image = np.ascontiguousarray(portrait[20:30, 20:40])
    continued = np.pad(image, ((0, MIN_SIZE - 10), (0, MIN_SIZE - 20), (0, 0)), "edge")
    expected = [np.minimum(box(face), [20, 10, 20, 10]) for face in detect(continued)]
    expected = [(x1, y1, x2, y2) for x1, y1, x2, y2 in expected if x2 > x1 and y2 > y1]
    assert expected
    np.testing.assert_array_equal([box(face) for face in detect(image)], expected)


def test_resnet50_does_not_import_tensorflow(small_resnet):
    script = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from stages.detection.detector import load_detector\n"
        "from tests.settings import detect_settings\n"
        "settings = detect_settings(detector='resnet50', score_threshold=0.5)\n"
        f"detect = load_detector(settings, Path({str(small_resnet)!r}))\n"
        "detect(np.zeros((64, 64, 3), np.uint8))\n"
        "assert 'retinaface' in sys.modules\n"
        "sys.exit('tensorflow' in sys.modules)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "DEEPFACE_BACKEND_ENGINE"}
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr


def test_boxes_smaller_than_a_pixel_are_left_out(small_resnet):
    image = draw_portrait(30, 1, 2, np.random.default_rng(1), size=64)[20:24, 30:34]
    enlarged = Scale(upscale=True, short_side=128, long_side=256)
    faces = load("resnet50", small_resnet, 0.4, enlarged)(image)
    assert faces  # from boxes of some 16 to 500 pixels, of which 32 are one of the image
    for face in faces:
        assert int(face.x2) > int(face.x1)
        assert int(face.y2) > int(face.y1)


def test_the_device_decides_what_calculates(monkeypatch: pytest.MonkeyPatch):
    cpu, both = ["CPUExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"]
    for offered, device, used in (
        *((both, "auto", both), (both, "cpu", cpu), (both, "gpu", both)),
        *((cpu, "auto", cpu), (cpu, "cpu", cpu)),
    ):
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda given=offered: given)
        assert providers(device) == used
    with pytest.raises(UserError, match="device is gpu, but onnxruntime offers none"):
        providers("gpu")
