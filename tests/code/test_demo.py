"""The drawn archive: the same bytes anywhere, and every status when it is detected."""

from collections import Counter

import pytest

from stages.acquisition.demo import AGE_GROUPS, write_demo
from stages.detection.detector import load_detector
from stages.detection.extraction import extract_faces
from stages.faces.index import STATUSES
from stages.faces.labels import age_group, parse_name
from stages.raw.archives import read_members
from tests.settings import detect_settings, limits

PORTRAITS = 60
ODD_FILES = 9


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "demo.tar"
    write_demo(path, PORTRAITS, seed=1)
    return path


@pytest.fixture(scope="module")
def members(demo):
    return list(read_members(demo, limits(10**6, 1 << 34, 10**6)))


@pytest.fixture(scope="module")
def rows(members, mobilenet_weights):
    detector = load_detector(detect_settings(), mobilenet_weights)
    extractions = extract_faces(members, detector, detect_settings(), 2)
    return [row for row, _ in extractions]


def test_the_same_arguments_give_the_same_bytes(demo, tmp_path):
    again = tmp_path / "elsewhere.tar"
    write_demo(again, PORTRAITS, seed=1)
    assert again.read_bytes() == demo.read_bytes()


def test_another_seed_gives_other_pictures(members, tmp_path):
    write_demo(tmp_path / "other.tar", PORTRAITS, seed=2)
    others = {
        member.data
        for member in read_members(tmp_path / "other.tar", limits(10**6, 1 << 34, 10**6))
    }
    # The text and the empty file do not depend on chance.
    assert len(others & {member.data for member in members}) == 2


def test_there_are_the_portraits_asked_for_and_nine_odd_files(members):
    assert len(members) == PORTRAITS + ODD_FILES
    assert len({member.name for member in members}) == PORTRAITS + ODD_FILES


def test_the_names_of_all_portraits_tell_balanced_labels(members):
    labels = [parse_name(member.name) for member in members[:PORTRAITS]]
    groups = age_group([label.age for label in labels], [oldest for _, oldest in AGE_GROUPS])
    cells = Counter(
        (int(group), label.gender, label.race) for group, label in zip(groups, labels, strict=True)
    )
    assert len(cells) == 5 * 2 * 5
    assert set(cells.values()) == {1, 2}


def test_every_status_occurs_with_the_real_detector(rows):
    assert {row.status for row in rows} == set(STATUSES)


def test_nearly_all_portraits_are_cropped(rows):
    assert sum(row.status == "cropped" for row in rows[:PORTRAITS]) >= 0.97 * PORTRAITS


def test_each_odd_file_has_the_intended_status(rows):
    assert [row.status for row in rows[PORTRAITS:]] == [
        *["cropped"] * 2,  # a space before the suffix, a missing dot
        *["no_face"] * 2,
        *["bad_label"] * 3,
        *["unreadable"] * 2,
    ]


def test_an_interrupted_drawing_leaves_no_archive(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("stages.acquisition.demo.draw_background", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "demo.tar", 3, seed=1)
    assert list(tmp_path.iterdir()) == []
