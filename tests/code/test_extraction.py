"""Every member's row and crop, and the two files that keep them: index.csv and crops.npy."""

import io
import multiprocessing
import tarfile
import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.acquisition.portraits import draw_background, draw_portrait
from stages.core.errors import UserError
from stages.detection.crops import crop
from stages.detection.detector import Face, load_detector
from stages.detection.extraction import extract_face, extract_faces, extract_in_processes
from stages.detection.forgetting import fingerprint
from stages.faces.index import (
    COLUMNS,
    STATUSES,
    Row,
    read_cropped,
    read_crops,
    read_index,
    write_faces,
)
from stages.parallel import processes
from stages.parallel import threads as threads_module
from stages.raw.archives import Member, read_members
from stages.raw.images import decode
from tests.settings import changed, detect_settings, limits

SETTINGS = detect_settings(face="score", margin=0.2, size=32, max_pixels=10**6)
SIZE = SETTINGS.size


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def detector(mobilenet_weights):
    return load_detector(detect_settings(), mobilenet_weights)


@pytest.fixture(scope="module")
def members():
    """Return members of each status, mixed: portraits, backgrounds, damaged and oddly named."""
    generator = np.random.default_rng(2)
    found = []
    for serial in range(8):
        portrait = png(draw_portrait(10 + 9 * serial, serial % 2, serial % 5, generator))
        name = f"{10 + 9 * serial}_{serial % 2}_{serial % 5}_{serial}.png"
        found += [
            Member("a.tar", f"set/{name}", portrait),
            Member("a.tar", f"set/40_0_0_{serial}.png", png(draw_background(generator))),
            Member("a.tar", f"set/40_0_1_{serial}.png", portrait[: len(portrait) // 2]),
            Member("a.tar", f"set/40_0_{serial}.png", portrait),
            Member("a.tar", f"set/40_0_2_{serial}.png", None, "not a plain file"),
        ]
    return found


@pytest.fixture(scope="module")
def serial_extractions(members, detector):
    return [extract_face(member, detector, SETTINGS) for member in members]


@pytest.fixture
def written(tmp_path, members, detector):
    """Return the files as the node writes them, and the counts."""
    index, crops = tmp_path / "index.csv", tmp_path / "crops.npy"
    counts = write_faces(extract_faces(members, detector, SETTINGS, 3), index, crops, SIZE)
    return index, crops, counts


def same(first, second):
    return [row for row, _ in first] == [row for row, _ in second] and all(
        np.array_equal(a, b) for (_, a), (_, b) in zip(first, second, strict=True)
    )


# --- one member -----------------------------------------------------------------------


def test_a_face_is_cropped_and_its_row_is_complete(detector):
    pixels = draw_portrait(30, 1, 2, np.random.default_rng(0))
    row, face = extract_face(Member("a.tar", "set/30_1_2_1.png", png(pixels)), detector, SETTINGS)
    (found,) = detector(pixels)
    box = (int(found.x1), int(found.y1), int(found.x2), int(found.y2))
    assert row == Row(
        name="30_1_2_1.png",
        archive="a.tar",
        status="cropped",
        age=30,
        gender=1,
        race=2,
        score=round(found.score, 6),
        **dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)),
        faces_found=1,
        width=200,
        height=200,
        reason="",
    )
    np.testing.assert_array_equal(face, crop(pixels, box, 0.2, SIZE))


def test_an_image_without_a_face_keeps_its_labels_and_size(detector):
    pixels = draw_background(np.random.default_rng(0))[:150]
    row, face = extract_face(Member("a.tar", "40_0_3_1.png", png(pixels)), detector, SETTINGS)
    assert (row.status, row.faces_found, row.width, row.height) == ("no_face", 0, 200, 150)
    assert (row.age, row.gender, row.race) == (40, 0, 3)
    assert row.score is row.x1 is face is None
    assert row.reason


@pytest.mark.parametrize("data", [b"", b"text", png(np.zeros((64, 64, 3), np.uint8))[:60]])
def test_an_unreadable_image_keeps_its_labels_and_has_a_reason(data, detector):
    row, face = extract_face(Member("a.tar", "40_0_3_1.png", data), detector, SETTINGS)
    assert (row.status, row.age, row.gender, row.race) == ("unreadable", 40, 0, 3)
    assert row.reason
    assert face is None


def test_a_too_large_image_is_unreadable(detector):
    settings = changed(SETTINGS, max_pixels=63)
    data = png(np.zeros((8, 8, 3), np.uint8))
    row, _ = extract_face(Member("a.tar", "40_0_3_1.png", data), detector, settings)
    assert row.status == "unreadable"
    assert "detect.max_pixels" in row.reason


def test_a_member_without_bytes_is_unreadable_with_the_archives_reason(detector):
    member = Member("a.tar", "notes.txt", None, "not a plain file")
    row, face = extract_face(member, detector, SETTINGS)
    assert (row.status, row.reason, face) == ("unreadable", "not a plain file", None)


def test_a_bad_name_is_not_even_decoded(detector):
    row, face = extract_face(Member("a.tar", "61_1_20170109.jpg", b"no image"), detector, SETTINGS)
    assert (row.status, row.age, face) == ("bad_label", None, None)
    assert "3 fields" in row.reason


def test_of_several_faces_the_setting_chooses_and_all_are_counted():
    sure, large = Face(0.99, 0, 0, 8, 8), Face(0.9, 10.9, 12.2, 60.7, 63.9)
    member = Member("a.tar", "40_0_3_1.png", png(np.zeros((64, 64, 3), np.uint8)))
    for choice, left in (("score", 0), ("largest", 10)):
        row, _ = extract_face(member, lambda _: [sure, large], changed(SETTINGS, face=choice))
        assert (row.faces_found, row.x1) == (2, left)
    assert (row.x1, row.y1, row.x2, row.y2) == (10, 12, 60, 63)


# --- many members -----------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_order_does_not_depend_on_the_threads(threads, members, detector, serial_extractions):
    assert same(list(extract_faces(members, detector, SETTINGS, threads)), serial_extractions)


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.parametrize("number", [1, 3])
def test_processes_find_the_same(
    start, number, members, mobilenet_weights, serial_extractions, monkeypatch
):
    context = multiprocessing.get_context(start)
    monkeypatch.setattr(processes, "CONTEXT", context)
    monkeypatch.setattr(processes, "BATCH", 3)
    load = partial(load_detector, detect_settings(), mobilenet_weights)
    gone = {fingerprint(members[1])}
    found = list(extract_in_processes(members, load, SETTINGS, number, gone))
    assert same(found, serial_extractions[:1] + serial_extractions[2:])


def test_the_order_holds_when_the_first_takes_longest(members):
    delays = iter([0.2, 0.1, 0.05])

    def slow(_):
        time.sleep(next(delays, 0))
        return []

    good = [member for member in members if member.name.startswith("40_0_0")]
    extractions = extract_faces(good, slow, SETTINGS, 4)
    assert [row.name for row, _ in extractions] == [member.name for member in good]


def test_few_members_are_under_way_at_a_time():
    drawn = 0

    def endless():
        nonlocal drawn
        while True:
            drawn += 1
            yield Member("a.tar", f"{drawn}.txt", b"")

    extractions = extract_faces(endless(), lambda _: [], SETTINGS, 2)
    for _ in range(100):
        next(extractions)
    extractions.close()
    assert drawn <= 100 + 8 * 2


def test_a_defect_in_a_thread_ends_the_run_with_its_error(members):
    def broken(_):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(extract_faces(members, broken, SETTINGS, 2))


def test_an_abandoned_run_leaves_no_thread_behind(members, detector):
    before = threading.active_count()
    extractions = extract_faces(members, detector, SETTINGS, 3)
    next(extractions)
    extractions.close()
    assert threading.active_count() == before


def test_a_second_member_of_a_base_name_keeps_a_row_under_another_name(detector):
    places = [("a.tar", "x/1.txt"), ("a.tar", "y/1.txt"), ("b.tar", "x/1.txt")]
    places += [("a.tar", "y/1.txt")] * 3
    members = [Member(archive, path, b"") for archive, path in places]
    names = [row.name for row, _ in extract_faces(members, detector, SETTINGS, 2)]
    assert names == [
        "1.txt",
        "a.tar/y/1.txt",
        "b.tar/x/1.txt",
        "a.tar/y/1.txt#2",
        "a.tar/y/1.txt#3",
        "a.tar/y/1.txt#4",
    ]


def test_many_members_of_one_name_take_no_longer_than_others():
    members = [Member("a.tar", "x/1.txt", b"")] * 20_000
    begin = time.process_time()
    names = [row.name for row, _ in extract_faces(members, lambda _: [], SETTINGS, 1)]
    assert len(set(names)) == 20_000
    assert names[-1] == "a.tar/x/1.txt#19999"
    assert time.process_time() - begin < 20, "the square of their number takes minutes"


def test_the_size_of_what_is_under_way_is_bounded(monkeypatch):
    monkeypatch.setattr(threads_module, "HEAVIEST", 10_000)
    drawn = 0

    def large():
        nonlocal drawn
        while True:
            drawn += 1
            yield Member("a.tar", f"{drawn}.txt", bytes(4000))

    extractions = extract_faces(large(), lambda _: [], SETTINGS, 8)
    for _ in range(20):
        next(extractions)
    extractions.close()
    assert drawn <= 20 + 10_000 // 4000 + 1


def test_a_second_member_of_a_base_name_keeps_its_labels_and_crop(members, detector):
    portrait = members[0]
    twin = replace(portrait, archive="b.tar")
    (first, face), (second, same_face) = extract_faces([portrait, twin], detector, SETTINGS, 1)
    assert second == first._replace(name=f"b.tar/{twin.path}", archive="b.tar")
    np.testing.assert_array_equal(face, same_face)


def test_every_member_of_an_archive_has_one_row(tmp_path, detector):
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("a.jpg", "sub/a.jpg", "a.jpg", "30_0_0_1\r.jpg", 'q"uo,te.jpg', " .jpg", "NA"):
            archive.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "a.jpg"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("\udcff\udcfe.jpg"))
    index = tmp_path / "index.csv"
    extractions = extract_faces(
        read_members(path, limits(10**6, 1 << 34, 10**6)), detector, SETTINGS, 2
    )
    counts = write_faces(extractions, index, tmp_path / "crops.npy", SIZE)
    frame = read_index(index)
    assert len(frame) == sum(counts.values()) == 9
    assert frame["name"].is_unique
    assert set(frame["archive"]) == {"odd.tar"}


# --- the two files ------------------------------------------------------------------------


def test_row_i_of_the_cropped_ones_describes_crop_i(written, members):
    index, crops, _ = written
    frame, pixels = read_cropped(index), read_crops(crops)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (len(frame), SIZE, SIZE, 3) == (8, SIZE, SIZE, 3)
    data = {member.name: member.data for member in members}
    for number, row in frame.iterrows():
        image = decode(data[row["name"]], SETTINGS.max_pixels)
        box = tuple(int(row[side]) for side in ("x1", "y1", "x2", "y2"))
        np.testing.assert_array_equal(pixels[number], crop(image, box, 0.2, SIZE))


def test_the_index_has_one_row_for_each_member_in_their_order(written, members):
    index, _, counts = written
    frame = read_index(index)
    assert list(frame["name"]) == [member.name for member in members]
    assert frame["status"].value_counts().to_dict() == counts
    assert counts == {"cropped": 8, "no_face": 8, "unreadable": 16, "bad_label": 8}


def test_written_files_are_read_back(tmp_path, serial_extractions):
    index = tmp_path / "index.csv"
    write_faces(serial_extractions, index, tmp_path / "crops.npy", SIZE)
    frame = read_index(index)
    assert list(frame.columns) == COLUMNS
    for (row, _), (_, read) in zip(serial_extractions, frame.iterrows(), strict=True):
        for column in COLUMNS:
            value, kept = getattr(row, column), read[column]
            assert pd.isna(kept) if value is None else kept == value


def test_the_same_extractions_give_the_same_bytes(tmp_path, members, detector):
    files = []
    for threads in (1, 4):
        index, crops = tmp_path / f"{threads}.csv", tmp_path / f"{threads}.npy"
        write_faces(extract_faces(members, detector, SETTINGS, threads), index, crops, SIZE)
        files.append((index.read_bytes(), crops.read_bytes()))
    assert files[0] == files[1]


@pytest.mark.parametrize("number", [0, 1, 9, 10, 1234])
def test_the_header_has_the_number_of_crops(number, tmp_path):
    face = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 3)
    extractions = ((Row(f"{i}.jpg", "a.tar", "cropped"), face) for i in range(number))
    write_faces(extractions, tmp_path / "index.csv", tmp_path / "crops.npy", 2)
    crops = read_crops(tmp_path / "crops.npy")
    assert crops.shape == (number, 2, 2, 3)
    np.testing.assert_array_equal(crops, np.broadcast_to(face, crops.shape))
    np.testing.assert_array_equal(np.load(tmp_path / "crops.npy"), crops)


def test_no_members_give_an_empty_index_and_no_crops(tmp_path):
    counts = write_faces([], tmp_path / "index.csv", tmp_path / "crops.npy", 100)
    assert counts == dict.fromkeys(STATUSES, 0)
    assert read_crops(tmp_path / "crops.npy").shape == (0, 100, 100, 3)
    assert read_cropped(tmp_path / "index.csv").empty
    assert list(read_index(tmp_path / "index.csv").columns) == COLUMNS


@pytest.mark.parametrize("error", [UserError("a.tar: damaged"), KeyboardInterrupt()])
def test_an_interrupted_writing_leaves_neither_file(error, tmp_path, serial_extractions):
    def broken():
        yield from serial_extractions
        raise error

    with pytest.raises(type(error)):
        write_faces(broken(), tmp_path / "index.csv", tmp_path / "crops.npy", SIZE)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_writing_keeps_the_files_of_an_earlier_run(tmp_path, serial_extractions):
    index, crops = tmp_path / "index.csv", tmp_path / "crops.npy"
    write_faces(serial_extractions, index, crops, SIZE)
    before = index.read_bytes(), crops.read_bytes()

    def broken():
        yield serial_extractions[0]
        raise UserError("a.tar: damaged")

    with pytest.raises(UserError):
        write_faces(broken(), index, crops, SIZE)
    assert (index.read_bytes(), crops.read_bytes()) == before


def test_missing_files_say_what_to_run(tmp_path):
    for read, name in ((read_index, "index.csv"), (read_crops, "crops.npy")):
        with pytest.raises(UserError, match=f"{name}: missing; run `dvc repro -f detect`"):
            read(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'name,archive\n"a,b\n'])
def test_a_malformed_index_is_refused_and_named(tmp_path, content):
    (tmp_path / "index.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"index\.csv: malformed .*dvc repro -f detect"):
        read_index(tmp_path / "index.csv")


def test_an_index_without_a_column_is_refused_by_its_name(tmp_path):
    path = tmp_path / "index.csv"
    path.write_text(",".join(column for column in COLUMNS if column != "race") + "\n")
    with pytest.raises(UserError, match=r"lacks the columns \['race'\]"):
        read_index(path)
