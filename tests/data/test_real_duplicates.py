"""Near-duplicates among real UTKFace images, aligned release, cropped to their middle.

Skipped, and said so, where the environment names no archive. Half a minute.
"""

import cv2
import numpy as np
import pytest

from stages.faces.labels import LabelError, parse_name
from stages.raw.archives import read_members
from stages.splitting.duplicates import group_duplicates, near_duplicates
from tests.settings import limits

FIRST = 8000
BITS, CORRELATION = 8, 0.95  # as params.yaml has them


@pytest.fixture(scope="module")
def real(utkface_archive):
    """Return crops, uint8 RGB (N, 100, 100, 3), and the gender code of each."""
    crops, genders = [], []
    for number, member in enumerate(read_members(utkface_archive, limits(10**7, 1 << 34, 10**6))):
        if number == FIRST:
            break
        try:
            labels = parse_name(member.name)
        except LabelError:
            continue
        image = cv2.imdecode(np.frombuffer(member.data, np.uint8), cv2.IMREAD_COLOR)
        middle = cv2.resize(image[30:170, 30:170, ::-1], (100, 100), interpolation=cv2.INTER_AREA)
        crops.append(middle)
        genders.append(labels.gender)
    return np.stack(crops), np.array(genders)


@pytest.fixture(scope="module")
def duplicates(real):
    return group_duplicates(real[0], BITS, CORRELATION)


def test_real_images_hold_many_copies_that_are_not_identical(duplicates):
    copies = len(duplicates.groups) - len(set(duplicates.groups))
    identical = len(duplicates.identical) - len(set(duplicates.identical))
    assert identical > 0
    assert copies > 1.5 * identical


def test_groups_stay_small_so_that_no_chain_joins_different_people(duplicates):
    assert np.bincount(duplicates.groups).max() <= 6


def test_pairs_are_of_one_gender_far_more_often_than_those_that_the_hash_alone_finds(
    real, duplicates
):
    crops, genders = real
    alone = near_duplicates(crops, BITS, 0)
    shares = [
        (genders[pairs["first"]] != genders[pairs["second"]]).mean()
        for pairs in (duplicates.pairs, alone)
    ]
    assert shares[0] < 0.1
    assert shares[1] > 0.2


def test_planted_copies_of_real_images_are_found(real):
    originals = real[0][:: len(real[0]) // 500]
    changes = {
        "mirrored": originals[:, :, ::-1],
        "brighter": np.clip(originals.astype(int) + 20, 0, 255).astype(np.uint8),
        "cut": np.stack([cv2.resize(crop[2:, 2:], (100, 100)) for crop in originals]),
    }
    found = {}
    for name, copies in changes.items():
        pairs = near_duplicates(np.concatenate([originals, copies]), BITS, CORRELATION)
        planted = pairs["second"] - pairs["first"] == len(originals)
        found[name] = planted.sum() / len(originals)
    assert found["mirrored"] == 1
    assert found["brighter"] > 0.99
    assert found["cut"] > 0.9
