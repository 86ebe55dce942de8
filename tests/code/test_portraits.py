"""The drawn portraits: reproducible, driven by their labels and learnable."""

import cv2
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from stages.acquisition.portraits import draw_background, draw_portrait

AGE_GROUP_EDGES = (14, 25, 40, 60)
TRAIN, TEST = 300, 150


@pytest.fixture(scope="module")
def labelled_pixels():
    """Return reduced pixels of portraits with balanced random labels, and the labels."""
    generator = np.random.default_rng(11)
    bounds = [(1, 15), (15, 26), (26, 41), (41, 61), (61, 91)]
    pixels, labels = [], []
    for _ in range(TRAIN + TEST):
        group, gender, race = (int(generator.integers(count)) for count in (5, 2, 5))
        age = int(generator.integers(*bounds[group]))
        portrait = draw_portrait(age, gender, race, generator, size=100)
        face = cv2.resize(portrait[20:90, 20:80], (24, 28), interpolation=cv2.INTER_AREA)
        pixels.append(face.ravel() / 255)
        labels.append((np.digitize(age, AGE_GROUP_EDGES, right=True), gender, race))
    return np.array(pixels), np.array(labels)


@pytest.mark.parametrize("size", [100, 200])
def test_pictures_are_rgb_bytes_of_the_requested_size(size):
    generator = np.random.default_rng(0)
    for picture in (draw_portrait(30, 0, 0, generator, size), draw_background(generator, size)):
        assert picture.shape == (size, size, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 10


@pytest.mark.parametrize("age", [1, 14, 40, 116])
def test_equal_generators_draw_equal_portraits(age):
    first, second = (draw_portrait(age, 1, 2, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_equal_generators_draw_equal_backgrounds():
    first, second = (draw_background(np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_global_random_state_has_no_effect():
    np.random.seed(0)
    cv2.setRNGSeed(0)
    first = draw_portrait(50, 0, 1, np.random.default_rng(3))
    np.random.seed(1)
    cv2.setRNGSeed(1)
    np.testing.assert_array_equal(first, draw_portrait(50, 0, 1, np.random.default_rng(3)))


def test_a_generator_draws_a_new_picture_each_time():
    generator = np.random.default_rng(3)
    assert not np.array_equal(
        draw_portrait(30, 0, 0, generator), draw_portrait(30, 0, 0, generator)
    )
    assert not np.array_equal(draw_background(generator), draw_background(generator))


def test_different_generators_draw_different_portraits():
    first, second = (draw_portrait(30, 0, 0, np.random.default_rng(seed)) for seed in (3, 4))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("other", [(70, 0, 0), (4, 0, 0), (30, 1, 0), (30, 0, 1), (30, 0, 4)])
def test_each_label_changes_the_face(other):
    first = draw_portrait(30, 0, 0, np.random.default_rng(3)).astype(int)
    second = draw_portrait(*other, np.random.default_rng(3)).astype(int)
    centre = np.s_[60:150, 60:140]
    assert np.abs(first - second)[centre].mean() > 3


@pytest.mark.parametrize(
    ("task", "chance", "expected"), [(0, 0.2, 0.5), (1, 0.5, 0.7), (2, 0.2, 0.7)]
)
def test_labels_can_be_learnt_from_pixels(labelled_pixels, task, chance, expected):
    pixels, labels = labelled_pixels
    model = RandomForestClassifier(n_estimators=100, random_state=0)
    model.fit(pixels[:TRAIN], labels[:TRAIN, task])
    accuracy = model.score(pixels[TRAIN:], labels[TRAIN:, task])
    assert accuracy > expected > chance
