"""Archives and images as nobody would pack them: each has a row that tells its status and why."""

import gzip
import io
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageCms

from stages.acquisition.portraits import draw_portrait
from stages.core.files import write_csv
from stages.core.run_names import RunName
from stages.dataset.split_files import read_lists, read_split
from stages.detection.detector import load_detector
from stages.detection.extraction import extract_faces
from stages.faces.index import read_cropped, read_crops, read_index, write_faces
from stages.raw.archives import LINK, SPECIAL, list_archives, read_members
from stages.splitting.lists import lists_of, published_lists
from tests.settings import detect_settings, limits

TOP = Path(__file__).parents[2]
LIMITS = limits(1 << 20, 1 << 24, 1000)
SETTINGS = detect_settings(face="score", margin=0.2, size=32, max_pixels=10**6)
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def images() -> dict[str, tuple[bytes, str, str]]:
    """By the last field of their names: bytes, status, and how the reason begins."""
    face = Image.fromarray(draw_portrait(30, 0, 0, np.random.default_rng(0)))
    jpeg, png = encoded(face, "JPEG", quality=92), encoded(face, "PNG")
    wide = np.asarray(face.convert("L")).astype(np.uint16) * 257
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    blank = [Image.new("RGB", (64, 64), c) for c in ("red", "lime")]
    found = {
        "whole": (jpeg, "cropped", ""),
        "truncated": (jpeg[: len(jpeg) // 2], "unreadable", "damaged image: "),
        "zero bytes": (b"", "unreadable", "not an image"),
        "1x1": (encoded(Image.new("RGB", (1, 1)), "PNG"), "no_face", "no face"),
        "60,000x60,000": (png_header(60_000, 60_000), "unreadable", "60000x60000 is more than"),
        "CMYK": (encoded(face.convert("CMYK"), "JPEG"), "cropped", ""),
        "palette": (encoded(face.convert("P"), "PNG"), "cropped", ""),
        "16-bit": (encoded(Image.fromarray(wide), "PNG"), "cropped", ""),
        "animated": (
            encoded(blank[0], "GIF", save_all=True, append_images=blank[1:]),
            "no_face",
            "no face",
        ),
        "wrong extension": (png, "cropped", ""),
        "profile": (encoded(face, "JPEG", quality=92, icc_profile=profile), "cropped", ""),
        "a tar": (tar({"30_0_0_1.jpg": jpeg}), "unreadable", "not an image"),
        "too long": (jpeg + bytes(LIMITS.max_file_bytes), "unreadable", "105"),
        "EPS": (encoded(face, "EPS"), "unreadable", "not an image"),
    }
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned = encoded(face.rotate(0), "JPEG", quality=92, exif=exif)
        upright = orientation in (1, 2)  # drawn faces on their side or head are none
        found[f"EXIF {orientation}"] = (turned, "cropped" if upright else "any", "")
    return found


def tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


IMAGES = images()
FACE = IMAGES["whole"][0]
FILE = {kind: f"30_0_0_{number}.jpg" for number, kind in enumerate(IMAGES)}
# Archive, path inside it, and the name that its row has.
ODD = [
    ("names.tar", "../../../tmp/30_0_0_100.jpg", "30_0_0_100.jpg"),
    ("names.tar", "/etc/30_0_0_101.jpg", "30_0_0_101.jpg"),
    ("names.tar", "30_0_0_102\n.jpg", r"30_0_0_102\x0a.jpg"),
    ("names.tar", "30_0_0_" + "1" * 244 + ".jpg", "30_0_0_" + "1" * 244 + ".jpg"),
    ("names.tar", "30_0_0_\udcff.jpg", r"30_0_0_\xff.jpg"),
    ("names.tar", "=cmd|'calc'!A1.jpg", r"\x3dcmd|'calc'!A1.jpg"),
    ("names.tar", "-1_0_0_1.jpg", r"\x2d1_0_0_1.jpg"),
    ("names.tar", "@SUM(A1)", r"\x40SUM(A1)"),
    ("names.tar", "+1.jpg", r"\x2b1.jpg"),
    ("names.tar", 'q",\t.jpg', r'q",\x09.jpg'),
    ("!first.tar", "30_0_0_103.jpg", "30_0_0_103.jpg"),
    ("=sum(a1).tar", "30_0_0_103.jpg", r"\x3dsum(a1).tar/30_0_0_103.jpg"),
    ("names.tar", "twice/30_0_0_103.jpg", "names.tar/twice/30_0_0_103.jpg"),
    ("names.tar", "twice/30_0_0_103.jpg", "names.tar/twice/30_0_0_103.jpg#2"),
    ("wrong-suffix.zip", "30_0_0_104.jpg", "30_0_0_104.jpg"),
]


@pytest.fixture(scope="module")
def written(
    tmp_path_factory: pytest.TempPathFactory, mobilenet_weights: Path
) -> tuple[Path, pd.DataFrame]:
    """A folder with all archives in raw/, and the index of them."""
    top = tmp_path_factory.mktemp("hostile")
    raw = top / "raw"
    raw.mkdir()
    (raw / "images.tar.gz").write_bytes(
        gzip.compress(tar({FILE[kind]: data for kind, (data, *_) in IMAGES.items()}))
    )
    for name in {archive for archive, *_ in ODD}:
        with tarfile.open(raw / name, "w", format=tarfile.GNU_FORMAT) as archive:
            for _, path, _ in (row for row in ODD if row[0] == name):
                info = tarfile.TarInfo(path)
                info.size = len(FACE)
                archive.addfile(info, io.BytesIO(FACE))
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
                info = tarfile.TarInfo(f"link-{int(kind)}-{name}.jpg")
                info.type, info.linkname = kind, "/etc/passwd"
                archive.addfile(info)
    with zipfile.ZipFile(raw / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("30_0_0_300.jpg", bytes(LIMITS.max_file_bytes + 1))
        archive.writestr("../30_0_0_301.jpg", FACE)
    (raw / "bomb.tar.gz").write_bytes(gzip.compress(bytes(LIMITS.max_archive_bytes * 2)))
    whole = tar({"30_0_0_400.jpg": FACE, "30_0_0_401.jpg": FACE})
    (raw / "cut.tar").write_bytes(whole[: whole.index(b"30_0_0_401") + 1000])
    (raw / "inner.tar").write_bytes(tar({"inner.tar": tar({"30_0_0_1.jpg": FACE})}))
    (raw / "text.tar.gz").write_bytes(b"no archive at all\n" * 99)

    detector = load_detector(detect_settings(), mobilenet_weights)
    members = (
        member
        for archive in list_archives(raw)
        for member in read_members(archive, LIMITS, keep_damaged=True)
    )
    extractions = extract_faces(members, detector, SETTINGS, 2)
    write_faces(extractions, top / "faces/index.csv", top / "faces/crops.npy", SETTINGS.size)
    return top, read_index(top / "faces/index.csv").set_index("name")


@pytest.mark.parametrize("kind", IMAGES)
def test_each_image_has_its_status_and_a_reason(kind: str, written: tuple[Path, pd.DataFrame]):
    row = written[1].loc[FILE[kind]]
    _, status, reason = IMAGES[kind]
    if status == "any":
        status = row["status"]
        assert status in ("cropped", "no_face")
    assert row["status"] == status
    assert row["reason"].startswith(reason)
    assert bool(row["reason"]) == (status != "cropped")


def test_each_odd_member_has_a_row_with_a_unique_name(
    written: tuple[Path, pd.DataFrame],
):
    index = written[1]
    assert index.index.is_unique
    for _, _, name in ODD:
        row = index.loc[name]
        labelled = re.fullmatch(r"30_0_0_\d+\.jpg", name.split("/")[-1].split("#")[0])
        assert row["status"] == ("cropped" if labelled else "bad_label")
    links = index[index.index.str.startswith("link-")]
    assert len(links) == 4 * 4
    assert set(links["reason"]) == {LINK, SPECIAL}
    assert index.loc["inner.tar", "status"] == "bad_label"


def test_what_is_left_of_broken_archives_has_a_row_too(written: tuple[Path, pd.DataFrame]):
    index = written[1]
    assert index.loc["30_0_0_400.jpg", "status"] == "cropped"
    for archive, message in {
        "cut.tar": "after 1 members: damaged",
        "text.tar.gz": "after 0 members: damaged",
        "bomb.tar.gz": "after 0 members: unpacks to more than detect.max_archive_bytes",
    }.items():
        assert index.loc[archive, "status"] == "unreadable"
        assert index.loc[archive, "reason"].startswith(message)
    assert "detect.max_file_bytes" in index.loc["30_0_0_300.jpg", "reason"]
    assert index.loc["30_0_0_301.jpg", "status"] == "cropped"


def test_nothing_is_written_but_the_two_files(written: tuple[Path, pd.DataFrame]):
    top = written[0]
    files = {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()}
    assert files - {f"raw/{p.name}" for p in (top / "raw").iterdir()} == {
        *("faces/index.csv", "faces/crops.npy")
    }
    assert not (top.parent / "tmp/30_0_0_100.jpg").exists()


def test_no_cell_is_a_formula_and_names_are_keys_in_every_table(
    written: tuple[Path, pd.DataFrame], tmp_path: Path
):
    top = written[0]
    text = pd.read_csv(top / "faces/index.csv", dtype="str", keep_default_na=False)
    assert not text.map(lambda cell: cell.startswith(FORMULA)).to_numpy().any()
    names = read_cropped(top / "faces/index.csv")["name"]
    assert r"\x3dsum(a1).tar/30_0_0_103.jpg" in set(names)
    assert len(read_crops(top / "faces/crops.npy")) == len(names)

    sides = np.resize(["train", "val", "test"], len(names))
    split = pd.DataFrame({"name": names, "split": sides, "group": range(len(names))})
    write_csv(tmp_path / "split.csv", split)
    write_csv(
        tmp_path / "lists.csv", lists_of(RunName.parse("v"), split, published_lists(names, 1))
    )
    assert read_split(tmp_path / "split.csv")["name"].tolist() == names.tolist()
    assert read_lists(tmp_path / "lists.csv")["name"].tolist() == names.tolist()


MILLION = """
import resource, sys
from pathlib import Path
from stages.raw.archives import read_members
from stages.detection.extraction import extract_faces
from stages.faces.index import write_faces
from tests.settings import detect_settings, limits

folder = Path(sys.argv[1])
members = read_members(folder / "many.tar", limits(1 << 20, 1 << 34, 1_000_000))
extractions = extract_faces(members, lambda _: [], detect_settings(size=32, max_pixels=10**6), 2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(write_faces(extractions, folder / "index.csv", folder / "crops.npy", 32)["unreadable"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.long
def test_a_million_members_take_bounded_memory(tmp_path: Path):
    header = bytearray(tarfile.TarInfo("30_0_0_0000000.jpg").tobuf())
    with (tmp_path / "many.tar").open("wb") as file:
        for serial in range(1_000_000):
            header[7:14] = b"%07d" % serial
            header[148:156] = b"        "
            header[148:156] = b"%06o\0 " % sum(header)
            file.write(header)
        file.write(bytes(1024))
    command = [sys.executable, "-c", MILLION, str(tmp_path)]
    done = subprocess.run(command, cwd=TOP, check=True, capture_output=True, text=True)
    rows, kibibytes = map(int, done.stdout.split())
    assert rows == 1_000_000
    assert kibibytes < 500 << 10
