"""Mutated images and archives through what the stage detect calls: a status, never a crash or hang.

Hypothesis draws the mutations, always the same ones. The normal suite tries a few; `-m long`
tries 5,000 images and 1,000 archives. An input that breaks something is added to BROKEN.
"""

import bz2
import faulthandler
import gzip
import io
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.acquisition.portraits import draw_portrait
from stages.core.errors import UserError
from stages.detection.detector import Detector, load_detector
from stages.detection.extraction import extract_face, extract_faces
from stages.faces.index import STATUSES, read_crops, read_index, write_faces
from stages.raw.archives import Member, is_archive, read_members
from tests.settings import detect_settings, limits

SETTINGS = detect_settings(face="score", margin=0.2, size=32, max_pixels=10**6)
LIMITS = limits(1 << 20, 1 << 24, 1000)
LONGEST = 60  # seconds for one input, on a loaded machine; an ordinary one takes 0.01
FORMULA = ("=", "+", "-", "@")
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

Mutation = tuple[str, float, int, bytes]
MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "write", "number", "drop", "repeat", "cut", "swap", "zero"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 400),
        st.binary(min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=6,
)


def mutate(data: bytes, mutations: list[Mutation]) -> bytes:
    """A file with some of its bytes changed, lost, moved or repeated."""
    changed = bytearray(data)
    for kind, place, number, new in mutations:
        at = int(place * len(changed))
        if kind == "flip" and changed:
            changed[at] ^= 1 << number % 8
        elif kind == "write":
            changed[at : at + len(new)] = new
        elif kind == "number":
            value = struct.pack(">I", NUMBERS[number % len(NUMBERS)])[-(1 << number % 3) :]
            changed[at : at + len(value)] = value
        elif kind == "drop":
            del changed[at : at + number]
        elif kind == "repeat":
            changed[at:at] = changed[at : at + number] * (1 + new[0] % 20)
        elif kind == "cut" and number % 4 == 0:  # else hardly anything else would be tried
            del changed[at:]
        elif kind == "swap":
            half = changed[at : at + number]
            changed[at : at + len(half)] = half[::-1]
        elif kind == "zero":
            changed[at : at + number] = bytes(len(changed[at : at + number]))
    return bytes(changed)


# --- images ---------------------------------------------------------------------------------


def portrait(seed: int, size: int = 96) -> Image.Image:
    return Image.fromarray(draw_portrait(30, seed % 2, seed % 5, np.random.default_rng(seed), size))


def encoded(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def seeds() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112], turned = 6, Image.Transpose.ROTATE_90
    return [
        encoded(portrait(0), quality=90),
        encoded(portrait(1), quality=60, progressive=True),
        encoded(
            portrait(2).transpose(turned),
            quality=80,
            exif=exif,
            icc_profile=bytes(200),
            comment="drawn",
        ),
        encoded(portrait(3).convert("CMYK"), quality=70),
        encoded(portrait(4).convert("L"), quality=70, restart_marker_rows=1),
    ]


@pytest.fixture(scope="module")
def detector(mobilenet_weights: Path) -> Detector:
    return load_detector(detect_settings(), mobilenet_weights)


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """End the process with the traceback of what hangs; each input sets the clock anew."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    faulthandler.cancel_dump_traceback_later()


def survive_image(data: bytes, detector: Detector) -> str:
    row, crop = extract_face(Member("a.tar", "30_0_0_1.jpg", data), detector, SETTINGS)
    assert row.status in STATUSES
    assert (crop is not None) == (row.status == "cropped") == (not row.reason)
    assert row.reason.isprintable()
    if crop is not None:
        assert crop.shape == (32, 32, 3)
    return row.status


def fuzz(test: Callable[..., None], examples: int, *strategies: st.SearchStrategy) -> None:
    """Call a test with as many different inputs, the same ones at each run."""
    run = settings(
        max_examples=examples,
        deadline=timedelta(seconds=LONGEST),
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )(given(*strategies)(test))
    run()


def fuzz_images(detector: Detector, examples: int) -> dict[str, int]:
    extractions = dict.fromkeys(STATUSES, 0)
    files = seeds()

    def one(number: int, mutations: list[Mutation]) -> None:
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        extractions[survive_image(mutate(files[number], mutations), detector)] += 1

    fuzz(one, examples, st.integers(0, len(files) - 1), MUTATIONS)
    return extractions


def test_the_seeds_are_cropped(detector: Detector):
    assert {survive_image(data, detector) for data in seeds()} == {"cropped"}


def test_some_mutated_images_have_a_status(detector: Detector):
    extractions = fuzz_images(detector, 250)
    assert extractions["cropped"]
    assert extractions["unreadable"]


@pytest.mark.long
def test_5000_mutated_images_have_a_status(detector: Detector):
    extractions = fuzz_images(detector, 5000)
    print(f"mutated images: {extractions}")
    assert sum(extractions.values()) >= 5000
    assert min(extractions["cropped"], extractions["unreadable"]) > 500


# --- archives -------------------------------------------------------------------------------


def tars() -> list[bytes]:
    """A tar of each style, with short, long and odd names, folders and links."""
    found = []
    for style in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=style) as archive:
            for name in ("set/30_0_0_1.jpg", "x" * 120 + "/31_1_2_2.jpg", "grün/32_0_3_3.jpg"):
                info = tarfile.TarInfo(name)
                data = encoded(portrait(5, 64), quality=50)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            link = tarfile.TarInfo("link.jpg")
            link.type, link.linkname = tarfile.SYMTYPE, "set/30_0_0_1.jpg"
            archive.addfile(link)
        found.append(buffer.getvalue())
    return found


def zips() -> list[bytes]:
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name in ("set/30_0_0_1.jpg", "grün/31_1_2_2.jpg"):
                archive.writestr(name, encoded(portrait(6, 64), quality=50))
            archive.writestr("folder/", b"")
        found.append(buffer.getvalue())
    return found


def with_right_checksums(data: bytes) -> bytes:
    """A tar whose headers are right about themselves, so that what else they say is believed."""
    mended = bytearray(data)
    for at in range(0, len(mended) - 511, 512):
        if mended[at + 257 : at + 262] == b"ustar":
            mended[at + 148 : at + 156] = b"        "
            mended[at + 148 : at + 156] = b"%06o\0 " % sum(mended[at : at + 512])
    return bytes(mended)


def with_right_crc(data: bytes) -> bytes:
    """A stored zip whose first member is right about its checksum."""
    mended, name = bytearray(data), len("set/30_0_0_1.jpg")
    size = int.from_bytes(mended[18:22], "little")
    crc = zlib.crc32(mended[30 + name : 30 + name + size]).to_bytes(4, "little")
    mended[14:18] = crc
    if (central := mended.find(b"PK\x01\x02")) >= 0:
        mended[central + 16 : central + 20] = crc
    return bytes(mended)


ARCHIVES: list[tuple[bytes, Callable[[bytes], bytes]]] = [
    *((data, wrap) for data in tars() for wrap in (bytes, with_right_checksums)),
    *((data, lambda d: gzip.compress(with_right_checksums(d), 1)) for data in tars()),
    *((data, lambda d: bz2.compress(with_right_checksums(d), 1)) for data in tars()[1:2]),
    (gzip.compress(tars()[1]), bytes),
    *((data, bytes) for data in zips()),
    (zips()[0], with_right_crc),
]


def survive_archive(data: bytes, folder: Path, detector: Detector) -> str:
    path = folder / "a.tar"
    path.write_bytes(data)
    is_archive(path)
    try:
        for _ in read_members(path, LIMITS):
            pass
        outcome = "read"
    except UserError:
        outcome = "refused"
    members = read_members(path, LIMITS, keep_damaged=True)
    faces = folder / "index.csv", folder / "crops.npy"
    extractions = extract_faces(members, detector, SETTINGS, 2)
    counts = write_faces(extractions, *faces, SETTINGS.size)
    index = read_index(faces[0])
    assert len(index) == sum(counts.values())
    assert len(read_crops(faces[1])) == counts["cropped"]
    assert all(name.isprintable() for name in index["name"])
    assert not index["name"].str.startswith(FORMULA).any()
    assert (index["reason"].ne("") == index["status"].ne("cropped")).all()
    assert sorted(p.name for p in folder.iterdir()) == ["a.tar", "crops.npy", "index.csv"]
    return outcome


def fuzz_archives(folder: Path, detector: Detector, examples: int) -> dict[str, int]:
    outcomes = {"read": 0, "refused": 0}

    def one(number: int, mutations: list[Mutation]) -> None:
        data, wrap = ARCHIVES[number]

        faulthandler.dump_traceback_later(LONGEST, exit=True)
        outcomes[survive_archive(wrap(mutate(data, mutations)), folder, detector)] += 1

    fuzz(one, examples, st.integers(0, len(ARCHIVES) - 1), MUTATIONS)
    return outcomes


def test_the_archives_are_read_completely_before_they_are_mutated(
    tmp_path: Path, detector: Detector
):
    for data, wrap in ARCHIVES:
        assert survive_archive(wrap(data), tmp_path, detector) == "read"
        assert set(read_index(tmp_path / "index.csv")["status"]) <= {
            "cropped",
            "no_face",
            "bad_label",
            "unreadable",
        }


def test_some_mutated_archives_are_read_or_refused(tmp_path: Path, detector: Detector):
    outcomes = fuzz_archives(tmp_path, detector, 60)
    assert outcomes["refused"]


@pytest.mark.long
def test_1000_mutated_archives_are_read_or_refused(tmp_path: Path, detector: Detector):
    outcomes = fuzz_archives(tmp_path, detector, 1000)
    print(f"mutated archives: {outcomes}")
    assert sum(outcomes.values()) >= 1000
    assert min(outcomes.values()) > 50


# --- what broke something once ----------------------------------------------------------------

BROKEN = {
    "a zip that lost its first byte": zips()[0][1:],  # a seek to before the beginning
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_broke_something_once_does_not_again(name: str, tmp_path: Path, detector: Detector):
    survive_image(BROKEN[name], detector)
    survive_archive(BROKEN[name], tmp_path, detector)
