"""Augmentation: each change stays within its range, is seeded, and is gone at inference."""

import colorsys

import cv2
import keras
import numpy as np
import pytest

from stages.core.variants import Augmentation
from stages.learning.augmentation import Augment

NOTHING = {
    "flip": False,
    "rotation": 0.0,
    "shift": 0.0,
    "zoom": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "greyscale": 0.0,
    "erasing": 0.0,
}
ALL = {
    "flip": True,
    "rotation": 20.0,
    "shift": 0.06,
    "zoom": 0.1,
    "brightness": 0.2,
    "contrast": 0.3,
    "saturation": 0.3,
    "hue": 0.05,
    "greyscale": 0.1,
    "erasing": 0.2,
}


def augmented(images: np.ndarray, seed: int = 1, training: bool = True, **settings: object):
    layer = Augment(Augmentation.model_validate(NOTHING | settings), seed)
    return np.asarray(layer(images, training=training))


def plain(colour: tuple[int, int, int], number: int = 64) -> np.ndarray:
    return np.tile(np.array(colour, np.uint8), (number, 8, 8, 1))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (12, 32, 32, 3), np.uint8)


def test_it_gives_uint8_of_the_same_shape_and_differs_from_image_to_image(images: np.ndarray):
    same = np.tile(images[:1], (12, 1, 1, 1))
    found = augmented(same, **ALL)
    assert found.dtype == np.uint8
    assert found.shape == images.shape
    assert len({image.tobytes() for image in found}) == 12


def test_at_inference_nothing_changes(images: np.ndarray):
    assert np.array_equal(augmented(images, training=False, **ALL), images)
    assert np.array_equal(augmented(images), images), "all settings off"


def test_the_seed_decides(images: np.ndarray):
    first, again, other = (augmented(images, seed, **ALL) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_flip_mirrors_about_half_of_the_images():
    images = np.random.default_rng(1).integers(0, 256, (200, 8, 8, 3), np.uint8)
    found = augmented(images, flip=True)
    kept = [np.array_equal(a, b) for a, b in zip(found, images, strict=True)]
    turned = [np.array_equal(a, b[:, ::-1]) for a, b in zip(found, images, strict=True)]
    assert all(a != b for a, b in zip(kept, turned, strict=True))
    assert 70 <= sum(turned) <= 130


def test_brightness_moves_by_at_most_its_share_of_the_range():
    moved = augmented(plain((120, 120, 120)), brightness=0.2)[:, 0, 0, 0].astype(int) - 120
    assert np.abs(moved).max() <= 51
    assert moved.min() < -35
    assert moved.max() > 35


def test_contrast_scales_the_distance_from_the_mean():
    halves = np.full((64, 8, 8, 3), 100, np.uint8)
    halves[:, 4:] = 150
    found = augmented(halves, contrast=0.3).astype(int)
    spread = (found[:, 4:].mean(axis=(1, 2, 3)) - found[:, :4].mean(axis=(1, 2, 3))) / 50
    assert 0.68 <= spread.min() < 0.8
    assert 1.2 < spread.max() <= 1.32
    assert found.mean(axis=(1, 2, 3)) == pytest.approx(125, abs=1)


def hsv(images: np.ndarray) -> np.ndarray:
    return np.array([colorsys.rgb_to_hsv(*(image[0, 0] / 255)) for image in images])


def test_saturation_is_multiplied_by_up_to_its_share():
    before = hsv(plain((180, 120, 120), 1))[0]
    found = hsv(augmented(plain((180, 120, 120)), saturation=0.3))
    factors = found[:, 1] / before[1]
    assert 0.67 <= factors.min() < 0.8
    assert 1.2 < factors.max() <= 1.33
    assert found[:, 2] == pytest.approx(before[2], abs=0.01)


def test_hue_turns_by_up_to_its_share_of_the_circle():
    before = hsv(plain((60, 180, 120), 1))[0]
    turned = hsv(augmented(plain((60, 180, 120)), hue=0.05))[:, 0] - before[0]
    assert np.abs(turned).max() <= 0.055
    assert turned.min() < -0.03
    assert turned.max() > 0.03


def test_a_share_of_the_images_loses_its_colours():
    found = augmented(plain((60, 180, 120)), greyscale=0.3).astype(int)
    grey = np.ptp(found, axis=-1).max(axis=(1, 2)) == 0
    assert 0.1 < grey.mean() < 0.5
    assert (found[~grey] == (60, 180, 120)).all()


def test_a_share_of_the_images_loses_a_rectangle():
    images = np.full((64, 60, 60, 3), (60, 180, 120), np.uint8)
    found = augmented(images, erasing=0.3)
    lost = (found == 128).all(axis=-1).mean(axis=(1, 2))
    assert 0.1 < (lost > 0).mean() < 0.5
    assert lost[lost > 0].min() > 0.01
    assert lost.max() < 0.25


def test_a_shift_moves_a_point_by_at_most_its_share_of_the_side():
    images = np.zeros((64, 50, 50, 3), np.uint8)
    images[:, 25, 25] = 255
    found = augmented(images, shift=0.06)[..., 0].astype(float)
    places = [np.array(np.unravel_index(image.argmax(), image.shape)) - 25 for image in found]
    assert np.abs(places).max() <= 4
    assert np.abs(places).max() >= 2


def test_a_rotation_turns_by_at_most_its_angle():
    images = np.zeros((64, 101, 101, 3), np.uint8)
    images[:, 49:52, 80:101] = 255
    found = augmented(images, rotation=20.0)[..., 0].astype(float)
    rows, columns = np.mgrid[-50:51, -50:51]
    ring = np.hypot(rows, columns) < 45
    angles = [
        np.degrees(np.arctan2((i * rows * ring).sum(), (i * columns * ring).sum())) for i in found
    ]
    assert np.abs(angles).max() <= 21
    assert np.abs(angles).max() > 15


def test_a_model_with_it_differs_in_training_only(images: np.ndarray):
    model = keras.Sequential([Augment(Augmentation.model_validate(ALL), 1)])
    assert np.array_equal(np.asarray(model(images, training=False)), images)


def test_a_zoom_scales_by_at_most_its_share():
    images = np.zeros((64, 100, 100, 3), np.uint8)
    images[:, 25:75, 25:75] = 255
    sides = np.sqrt((augmented(images, zoom=0.1)[..., 0] / 255.0).sum(axis=(1, 2)))
    assert 50 / 1.11 <= sides.min() < 50 / 1.06
    assert 50 / 0.94 < sides.max() <= 50 / 0.89


def test_places_are_changed_without_an_empty_border():
    grey = np.full((32, 40, 40, 3), 200, np.uint8)
    found = augmented(grey, flip=True, rotation=20.0, shift=0.06, zoom=0.1)
    assert np.array_equal(found, grey)


def test_all_changes_of_places_are_one_bilinear_resampling(monkeypatch: pytest.MonkeyPatch):
    images = np.random.default_rng(2).integers(0, 256, (6, 40, 40, 3), np.uint8)
    matrices = []
    warp = keras.ops.image.affine_transform

    def spy(pixels: object, matrix: object, **settings: object) -> object:
        matrices.append(np.asarray(matrix))
        return warp(pixels, matrix, **settings)

    monkeypatch.setattr(keras.ops.image, "affine_transform", spy)
    found = augmented(images, flip=True, rotation=20.0, shift=0.06, zoom=0.1)
    assert len(matrices) == 1
    for image, outcome, row in zip(images, found, matrices[0], strict=True):
        wanted = cv2.warpAffine(
            image,
            row[:6].reshape(2, 3),
            (40, 40),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        inside = slice(10, 30)  # OpenCV goes on beyond the border in another way
        difference = np.abs(outcome[inside, inside].astype(int) - wanted[inside, inside])
        assert difference.max() <= 6  # OpenCV places pixels in steps of 1/32
    turns = matrices[0][:, :6].reshape(-1, 2, 3)[:, :, :2]
    sizes = np.sqrt(np.abs(np.linalg.det(turns)))
    assert 0.9 <= sizes.min() < sizes.max() <= 1.1
