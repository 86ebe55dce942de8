"""Real UTKFace images, aligned release, through the real detector: its first files and odd ones.

Skipped, and said so, where the environment names no archive.
"""

import re

import numpy as np
import pytest

from stages.detection.detector import load_detector
from stages.detection.extraction import extract_faces
from stages.faces.index import read_cropped, read_crops, read_index, write_faces
from stages.faces.labels import LabelError, parse_name
from stages.raw.archives import read_members
from tests.settings import detect_settings, limits

FIRST = 400
SIZE = 100
WELL_NAMED = re.compile(r"\d{1,3}_[01]_[0-4]_\d+\.jpg\.chip\.jpg")
MISSING_FIELD = {
    "39_1_20170116174525125.jpg.chip.jpg",
    "61_1_20170109142408075.jpg.chip.jpg",
    "61_1_20170109150557335.jpg.chip.jpg",
}
ODD_BUT_READ = {
    "24_0_1_20170116220224657 .jpg.chip.jpg": (24, 0, 1),
    "55_0_0_20170116232725357jpg.chip.jpg": (55, 0, 0),
    "14_0_0_2017011022340900.jpg.chip.jpg": (14, 0, 0),
    "28_1_2_201701161846515488.jpg.chip.jpg": (28, 1, 2),
    "38_0_1_201701162330572788.jpg.chip.jpg": (38, 0, 1),
}


@pytest.fixture(scope="module")
def names(utkface_archive):
    """Return the base names of the whole archive, in its order."""
    return [member.name for member in read_members(utkface_archive, limits(0, 1 << 34, 10**6))]


@pytest.fixture(scope="module")
def streamed(utkface_archive, mobilenet_weights, tmp_path_factory):
    """Return the folder of index and crops of the first members and of all odd ones."""
    odd = MISSING_FIELD | set(ODD_BUT_READ)
    chosen = (
        member
        for number, member in enumerate(
            read_members(utkface_archive, limits(10**7, 1 << 34, 10**6))
        )
        if number < FIRST or member.name in odd
    )
    detector = load_detector(detect_settings(), mobilenet_weights)
    folder = tmp_path_factory.mktemp("faces")
    settings = detect_settings(margin=0.2, size=SIZE, max_pixels=10**8)
    extractions = extract_faces(chosen, detector, settings, 2)
    write_faces(extractions, folder / "index.csv", folder / "crops.npy", SIZE)
    return folder


@pytest.fixture(scope="module")
def index(streamed):
    return read_index(streamed / "index.csv").set_index("name")


def test_hardly_any_name_of_the_archive_is_refused_and_those_lack_a_field(names):
    refused = {}
    for name in names:
        try:
            parse_name(name)
        except LabelError as error:
            refused[name] = str(error)
    assert set(refused) >= MISSING_FIELD
    assert len(refused) < 0.001 * len(names)
    assert all("fields" in reason for reason in refused.values())


def test_no_name_stands_twice_in_the_archive(names):
    assert len(names) == len(set(names))


def test_every_member_has_exactly_one_row_in_the_archives_order(names, index):
    odd = MISSING_FIELD | set(ODD_BUT_READ)
    chosen = [name for i, name in enumerate(names) if i < FIRST or name in odd]
    assert list(index.index) == chosen


def test_nearly_all_well_named_images_are_cropped(index):
    well_named = index[index.index.map(lambda name: bool(WELL_NAMED.fullmatch(name)))]
    assert len(well_named) >= FIRST
    assert (well_named["status"] == "cropped").mean() >= 0.99


@pytest.mark.parametrize("name", ODD_BUT_READ)
def test_an_odd_name_of_sure_meaning_is_read_and_its_face_cropped(name, index):
    row = index.loc[name]
    assert row["status"] == "cropped"
    assert (row["age"], row["gender"], row["race"]) == ODD_BUT_READ[name]


@pytest.mark.parametrize("name", sorted(MISSING_FIELD))
def test_a_name_without_a_field_is_a_bad_label(name, index):
    row = index.loc[name]
    assert row["status"] == "bad_label"
    assert "3 fields" in row["reason"]


def test_faces_lie_in_the_middle_of_the_aligned_pictures(streamed):
    cropped = read_cropped(streamed / "index.csv")
    assert (cropped[["width", "height"]] == 200).all(axis=None)
    middle = cropped[["x1", "x2", "y1", "y2"]].astype(float)
    assert ((middle["x1"] + middle["x2"]) / 2 - 100).abs().median() < 15
    assert ((middle["y1"] + middle["y2"]) / 2 - 100).abs().median() < 25


def test_there_is_a_crop_for_each_cropped_row_and_none_is_empty(streamed):
    crops = read_crops(streamed / "crops.npy")
    assert crops.shape == (len(read_cropped(streamed / "index.csv")), SIZE, SIZE, 3)
    assert np.asarray(crops).reshape(len(crops), -1).std(axis=1).min() > 5
