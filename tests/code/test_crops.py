"""The published crop: which face, how much around it, and the exact pixels."""

import numpy as np
import pytest
from PIL import Image

from stages.acquisition.portraits import draw_portrait
from stages.detection.crops import choose_face, crop, widen
from stages.detection.detector import Face

HEIGHT, WIDTH = 100, 200
SURE = Face(0.99, 0, 0, 20, 20)
LARGE = Face(0.95, 120, 20, 200, 100)
CENTRAL = Face(0.91, 95, 45, 105, 55)


@pytest.fixture(scope="module")
def image():
    return draw_portrait(40, 1, 1, np.random.default_rng(0))[:150]


@pytest.mark.parametrize(
    ("choice", "face"), [("score", SURE), ("largest", LARGE), ("central", CENTRAL)]
)
def test_each_choice_selects_its_face_in_any_order(choice, face):
    for faces in ([SURE, LARGE, CENTRAL], [CENTRAL, LARGE, SURE], [LARGE, CENTRAL, SURE]):
        assert choose_face(faces, choice, HEIGHT, WIDTH) == face


def test_central_means_the_middle_of_this_image():
    assert choose_face([SURE, LARGE, CENTRAL], "central", 20, 20) == SURE


def test_a_large_area_counts_and_not_a_long_side():
    long, square = Face(0.9, 0, 0, 100, 10), Face(0.9, 0, 0, 40, 40)
    assert choose_face([long, square], "largest", HEIGHT, WIDTH) == square


@pytest.mark.parametrize("choice", ["score", "largest", "central"])
def test_of_equal_faces_the_first_is_chosen(choice):
    first, second = Face(0.9, 10, 10, 20, 20), Face(0.9, 10, 10, 20, 20)
    assert choose_face([first, second], choice, HEIGHT, WIDTH) is first


@pytest.mark.parametrize(
    ("box", "margin", "widened"),
    [
        ((50, 30, 99, 62), 0.2, (41, 24, 108, 68)),  # int(9.8) = 9 and int(6.4) = 6
        ((50, 30, 54, 34), 0.2, (50, 30, 54, 34)),  # int(0.8) = 0
        ((50, 30, 55, 36), 0.2, (49, 29, 56, 37)),
        ((50, 30, 90, 60), 0.0, (50, 30, 90, 60)),
        ((50, 30, 70, 40), 1.0, (30, 20, 90, 50)),
        ((5, 3, 55, 43), 0.2, (0, 0, 65, 51)),  # clipped at the left and the top
        ((150, 60, 195, 99), 0.2, (141, 53, 200, 100)),  # and at the right and the bottom
        ((0, 0, 200, 100), 0.5, (0, 0, 200, 100)),
        ((0, 0, 1, 1), 0.2, (0, 0, 1, 1)),
    ],
)
def test_a_box_grows_by_the_whole_pixels_of_its_margin_within_the_image(box, margin, widened):
    assert widen(box, margin, HEIGHT, WIDTH) == widened


@pytest.mark.parametrize("box", [(50, 40, 140, 145), (0, 0, 30, 20), (120, 90, 200, 150)])
@pytest.mark.parametrize("size", [32, 100, 224])
def test_a_crop_is_pillows_cut_and_bicubic_resize(box, size, image):
    area = widen(box, 0.2, *image.shape[:2])
    expected = Image.fromarray(image).crop(area).resize((size, size), Image.Resampling.BICUBIC)
    made = crop(image, box, 0.2, size)
    assert made.dtype == np.uint8
    assert made.shape == (size, size, 3)
    np.testing.assert_array_equal(made, np.asarray(expected))


def test_a_crop_does_not_see_the_pixels_around_its_box(image):
    box = (60, 50, 100, 90)
    other = np.zeros_like(image)
    other[50:90, 60:100] = image[50:90, 60:100]
    np.testing.assert_array_equal(crop(image, box, 0.0, 30), crop(other, box, 0.0, 30))


def test_a_box_of_one_pixel_fills_the_crop_with_it(image):
    made = crop(image, (7, 9, 8, 10), 0.2, 40)
    np.testing.assert_array_equal(made, np.broadcast_to(image[9, 7], (40, 40, 3)))


def test_shrinking_averages_and_does_not_pick_pixels():
    stripes = np.zeros((200, 200, 3), np.uint8)
    stripes[:, ::2] = 255
    made = crop(stripes, (0, 0, 200, 200), 0.0, 50)
    assert np.abs(made[:, 5:-5].astype(int) - 127).max() < 20


def test_the_image_is_not_modified(image):
    before = image.copy()
    crop(image, (50, 40, 140, 145), 0.2, 100)
    np.testing.assert_array_equal(image, before)
