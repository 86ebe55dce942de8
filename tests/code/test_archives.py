"""Streaming members out of real tar and zip files: whole, damaged and odd ones."""

import bz2
import errno
import gzip
import io
import os
import random
import tarfile
import time
import tracemalloc
import zipfile

import pytest

from stages.core.errors import UserError
from stages.raw.archives import (
    LINK,
    SPECIAL,
    DamagedArchiveError,
    Member,
    is_archive,
    list_archives,
    read_members,
)
from tests.settings import changed, limits

LIMIT = limits(1 << 20, 1 << 26, 50_000)
RANDOM = random.Random(0)
# Not in order of their names, and not compressible, as JPEG files are.
FILES = {f"faces/{name}.jpg": RANDOM.randbytes(3000) for name in "cabed"}


def tar_bytes(files, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zip_bytes(files, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def write(path, data):
    path.write_bytes(data)
    return path


FORMATS = {
    "a.tar": tar_bytes(FILES),
    "a.tar.gz": tar_bytes(FILES, "w:gz"),
    "a.zip": zip_bytes(FILES),
    "stored.zip": zip_bytes(FILES, zipfile.ZIP_STORED),
}


@pytest.fixture(params=FORMATS)
def archive(request, tmp_path):
    return write(tmp_path / request.param, FORMATS[request.param])


def test_members_are_complete_and_in_their_stored_order(archive):
    members = list(read_members(archive, LIMIT))
    assert members == [Member(archive.name, path, data) for path, data in FILES.items()]
    assert [member.name for member in members] == [f"{name}.jpg" for name in "cabed"]


def test_nothing_is_unpacked_to_disk(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for _ in read_members(archive, LIMIT):
        assert list(tmp_path.rglob("*")) == [archive]


def test_an_archive_with_a_wrong_suffix_is_still_read(archive):
    for suffix in (".jpg", ".zip", ".tar", ""):
        renamed = archive.rename(archive.with_name(f"renamed{suffix}"))
        assert is_archive(renamed)
        assert [member.data for member in read_members(renamed, LIMIT)] == list(FILES.values())
        archive = renamed


def test_a_member_of_exactly_the_limit_is_read_and_a_larger_one_is_not(archive):
    for limit, read in ((3000, True), (2999, False)):
        members = list(read_members(archive, changed(LIMIT, max_file_bytes=limit)))
        assert len(members) == len(FILES)
        assert all((member.data is not None) == read for member in members)
    assert {member.problem for member in members} == {
        "3000 bytes are more than detect.max_file_bytes 2999"
    }


@pytest.mark.parametrize("make", [tar_bytes, zip_bytes])
def test_too_large_members_do_not_hide_those_around_them(make, tmp_path):
    files = {"a.jpg": b"first", "b.jpg": bytes(5000), "c.jpg": b"last"}
    members = list(
        read_members(write(tmp_path / "a", make(files)), changed(LIMIT, max_file_bytes=4000))
    )
    assert [member.data for member in members] == [b"first", None, b"last"]


def test_a_zip_bomb_is_refused_by_its_announced_size(tmp_path):
    bomb = write(tmp_path / "a.zip", zip_bytes({"30_0_0_1.jpg": bytes(50 << 20)}))
    tracemalloc.start()
    (member,) = read_members(bomb, LIMIT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert member.data is None
    assert peak < 5 << 20


def test_a_zip_that_understates_a_size_is_damaged(tmp_path):
    data = bytearray(zip_bytes({"a.jpg": bytes(100_000)}))
    central = data.index(b"PK\x01\x02")
    data[central + 24 : central + 28] = (10).to_bytes(4, "little")
    with pytest.raises(UserError, match="damaged"):
        list(read_members(write(tmp_path / "a.zip", data), LIMIT))


def test_links_and_devices_are_reported_and_not_followed(tmp_path):
    secret = write(tmp_path / "secret.jpg", b"not part of the archive")
    kinds = {
        "1_0_0_1.jpg": (tarfile.SYMTYPE, str(secret)),
        "2_0_0_1.jpg": (tarfile.LNKTYPE, "faces/c.jpg"),
        "3_0_0_1.jpg": (tarfile.CHRTYPE, ""),
        "4_0_0_1.jpg": (tarfile.BLKTYPE, ""),
        "5_0_0_1.jpg": (tarfile.FIFOTYPE, ""),
    }
    path = write(tmp_path / "a.tar", tar_bytes(FILES))
    with tarfile.open(path, "a") as archive:
        for name, (kind, target) in kinds.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    members = list(read_members(path, LIMIT))[len(FILES) :]
    assert [member.name for member in members] == list(kinds)
    assert [member.problem for member in members] == [LINK] * 2 + [SPECIAL] * 3
    assert {member.data for member in members} == {None}


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_folders_are_no_members(kind, tmp_path):
    folder = tmp_path / "set" / "deep" / "er"
    folder.mkdir(parents=True)
    write(folder / "30_0_0_1.jpg", b"data")
    path = tmp_path / f"a.{kind}"
    if kind == "tar":
        with tarfile.open(path, "w") as archive:
            archive.add(tmp_path / "set", "set")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.mkdir("set") if hasattr(archive, "mkdir") else archive.writestr("set/", "")
            archive.write(folder / "30_0_0_1.jpg", "set/deep/er/30_0_0_1.jpg")
    (member,) = read_members(path, LIMIT)
    assert (member.path, member.name) == ("set/deep/er/30_0_0_1.jpg", "30_0_0_1.jpg")


def test_paths_that_climb_out_only_name_their_members(tmp_path):
    path = write(tmp_path / "a.tar", tar_bytes({"../../../etc/30_0_0_1.jpg": b"x", "/b.jpg": b"y"}))
    assert [member.name for member in read_members(path, LIMIT)] == ["30_0_0_1.jpg", "b.jpg"]


def test_encrypted_members_of_a_zip_are_reported(tmp_path):
    data = bytearray(zip_bytes({"a.jpg": b"secret", "b.jpg": b"open"}))
    # zipfile cannot encrypt: bit 0 of the flags says so, in both of a.jpg's headers.
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    members = list(read_members(write(tmp_path / "a.zip", data), LIMIT))
    assert [(m.data, m.problem) for m in members] == [(None, "encrypted"), (b"open", "")]


def test_a_zip_member_of_unknown_compression_is_reported(tmp_path):
    data = bytearray(zip_bytes({"a.jpg": b"first", "b.jpg": b"second"}))
    deflate64 = 9
    data[8] = data[data.index(b"PK\x01\x02") + 10] = deflate64
    members = list(read_members(write(tmp_path / "a.zip", data), LIMIT))
    assert [member.data for member in members] == [None, b"second"]
    assert "compression" in members[0].problem


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_an_archive_cut_anywhere_is_an_error_that_names_it(name, tmp_path):
    whole = FORMATS[name]
    if name == "a.tar":  # the records of zeros after the end marker may go
        whole = whole[: len(FILES) * (512 + 3072) + 512]
    lengths = [*range(1, len(whole), 97), len(whole) - 1]
    if name == "a.tar":
        lengths += [number * (512 + 3072) for number in range(1, len(FILES) + 1)]
    for length in lengths:
        path = write(tmp_path / name, whole[:length])
        with pytest.raises(UserError) as caught:
            list(read_members(path, LIMIT))
        assert str(path) in str(caught.value)
        assert "dvc repro download" in str(caught.value)


@pytest.mark.parametrize("limit", [changed(LIMIT, max_file_bytes=0), LIMIT])
def test_an_archive_cut_behind_its_last_member_is_an_error_even_if_none_is_read(limit, tmp_path):
    path = write(tmp_path / "a.tar.gz", FORMATS["a.tar.gz"][:-4])
    with pytest.raises(UserError, match="damaged"):
        list(read_members(path, limit))


def test_gzips_checksum_is_read_even_far_behind_the_end_of_the_tar(tmp_path):
    data = bytearray(gzip.compress(FORMATS["a.tar"] + bytes(1 << 22)))
    assert len(list(read_members(write(tmp_path / "a.tar.gz", data), LIMIT))) == len(FILES)
    data[-8] ^= 1
    with pytest.raises(UserError, match="CRC"):
        list(read_members(write(tmp_path / "a.tar.gz", data), LIMIT))


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip", "stored.zip"])
def test_one_wrong_bit_in_an_image_is_an_error(name, tmp_path):
    data = bytearray(FORMATS[name])
    data[len(data) // 2] ^= 1
    with pytest.raises(UserError, match="damaged"):
        list(read_members(write(tmp_path / name, data), LIMIT))


def test_a_damaged_header_in_the_middle_of_a_tar_is_not_its_end(tmp_path):
    data = bytearray(FORMATS["a.tar"])
    data[2 * (512 + 3072) + 3] ^= 1
    with pytest.raises(UserError, match="damaged"):
        list(read_members(write(tmp_path / "a.tar", data), LIMIT))


def giant(kind: str, size: int) -> bytes:
    """A tar of one member whose header announces far more bytes than there are."""
    info = tarfile.TarInfo("25_0_1_2017.jpg")
    info.size = size
    if kind == "pax":
        info.size, info.pax_headers = 0, {"size": str(size)}
        return info.tobuf(tarfile.PAX_FORMAT) + bytes(2000)
    data = info.tobuf(tarfile.GNU_FORMAT) + bytes(2000)
    return gzip.compress(data) if kind == "gzip" else data


@pytest.mark.parametrize("kind", ["gnu", "pax", "gzip"])
@pytest.mark.parametrize("size", [10**9, 10**14, 2**60], ids=["within the limit", "pax", "gnu"])
def test_a_member_that_announces_more_than_there_is_ends_at_once(kind: str, size: int, tmp_path):
    wide = limits(10**6, 1 << 36, 100)
    path, begin = write(tmp_path / "e.tar", giant(kind, size)), time.process_time()
    with pytest.raises(UserError, match=r"in the middle of a member|unpacks to more than"):
        list(read_members(path, wide))
    *_, last = read_members(path, wide, keep_damaged=True)
    assert last.data is None
    assert last.problem.startswith("after ")
    assert time.process_time() - begin < 1


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_zeroed_sector_is_not_the_end_of_a_tar(name: str, tmp_path):
    data = bytearray(FORMATS["a.tar"])
    start = 2 * (512 + 3072)
    data[start : start + 512] = bytes(512)
    path = write(tmp_path / name, gzip.compress(data) if name.endswith("gz") else data)
    members = read_members(path, LIMIT)
    assert [next(members).data for _ in range(2)] == list(FILES.values())[:2]
    with pytest.raises(UserError, match="more than zeros after its end"):
        next(members)
    *whole, last = read_members(path, LIMIT, keep_damaged=True)
    assert (len(whole), last.problem[:16]) == (2, "after 2 members:")


def test_two_tars_in_one_file_are_damage(tmp_path):
    path = write(tmp_path / "both.tar", FORMATS["a.tar"] * 2)
    with pytest.raises(UserError, match="several in one"):
        list(read_members(path, LIMIT))


def test_damage_shows_only_after_the_members_before_it(tmp_path):
    members = read_members(write(tmp_path / "a.tar", FORMATS["a.tar"][:8000]), LIMIT)
    assert [next(members).data for _ in range(2)] == list(FILES.values())[:2]
    with pytest.raises(UserError):
        next(members)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x1f\x8b", b"PK\x03\x04", b"some text\n" * 999, gzip.compress(b"text " * 999, mtime=0)],
    ids=["empty", "start of gzip", "start of zip", "text", "gzip of text"],
)
def test_files_that_are_no_archive_are_known_and_refused(data, tmp_path):
    path = write(tmp_path / "notes.tar.gz", data)
    assert not is_archive(path)
    with pytest.raises(UserError, match=r"notes\.tar\.gz"):
        list(read_members(path, LIMIT))


def test_the_first_bytes_of_a_gzip_file_are_no_archive(tmp_path):
    assert not is_archive(write(tmp_path / "a.tar.gz", FORMATS["a.tar.gz"][:100]))


def test_a_missing_archive_is_an_error_that_names_it(tmp_path):
    with pytest.raises(UserError, match=r"absent\.tar"):
        list(read_members(tmp_path / "absent.tar", LIMIT))


def test_a_tar_that_ends_with_a_zip_file_is_a_tar(tmp_path):
    files = {**FILES, "more.zip": zip_bytes({"inner.jpg": b"inner"})}
    path = write(tmp_path / "a.tar", tar_bytes(files))
    assert [member.path for member in read_members(path, LIMIT)] == list(files)


def test_a_zip_that_begins_with_a_tar_file_is_a_zip(tmp_path):
    files = {"inner.tar": FORMATS["a.tar"], **FILES}
    path = write(tmp_path / "a.zip", zip_bytes(files, zipfile.ZIP_STORED))
    assert [member.path for member in read_members(path, LIMIT)] == list(files)


def test_a_bzip2_tar_is_read_too(tmp_path):
    path = write(tmp_path / "a.tar.bz2", bz2.compress(FORMATS["a.tar"]))
    assert [member.data for member in read_members(path, LIMIT)] == list(FILES.values())


def test_an_archive_without_files_is_told(tmp_path):
    for data in (tar_bytes({}), tar_bytes({}, "w:gz"), zip_bytes({}), bytes(10_240)):
        path = write(tmp_path / "a", data)
        with pytest.raises(DamagedArchiveError, match="a: contains no files"):
            list(read_members(path, LIMIT))
        (member,) = read_members(path, LIMIT, keep_damaged=True)
        assert (member.data, member.problem) == (None, "after 0 members: contains no files")


def test_what_stands_behind_a_compressed_tar_is_damage(tmp_path):
    for packed in (bz2.compress(FORMATS["a.tar"]), FORMATS["a.tar.gz"]):
        members = read_members(write(tmp_path / "a", packed + b"garbage"), LIMIT)
        assert [next(members).data for _ in FILES] == list(FILES.values())
        with pytest.raises(DamagedArchiveError):
            next(members)


def test_what_stands_before_or_behind_a_zip_is_damage(tmp_path):
    one, other = FORMATS["a.zip"], zip_bytes({"other.jpg": b"other"})
    for data in (one + other, one + b"x", one + other[:-30]):
        with pytest.raises(DamagedArchiveError, match="several in one"):
            list(read_members(write(tmp_path / "a.zip", data), LIMIT))


def test_a_zip_with_a_comment_of_64_bits_appended_to_or_padded_is_whole(tmp_path):
    path = write(tmp_path / "a.zip", FORMATS["a.zip"])
    with zipfile.ZipFile(path, "a") as archive, archive.open("b", "w", force_zip64=True) as member:
        member.write(b"more")
        archive.comment = b"PK\x03\x04 " * 1000
    for rest in (b"", bytes(512)):
        write(path, path.read_bytes() + rest)
        assert [m.data for m in read_members(path, LIMIT)] == [*FILES.values(), b"more"]


@pytest.mark.parametrize("style", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_that_are_not_utf8_become_printable(style, tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=style) as archive:
        for name in (os.fsdecode(b"30_0_0_\xff\xe9.jpg"), "größe_日本.jpg", "x" * 150 + ".jpg"):
            archive.addfile(tarfile.TarInfo(name))
    names = [member.name for member in read_members(path, LIMIT)]
    assert names == [r"30_0_0_\xff\xe9.jpg", "größe_日本.jpg", "x" * 150 + ".jpg"]
    assert "".join(names).encode("utf-8")


def test_a_zip_name_in_an_old_encoding_is_read(tmp_path):
    data = zip_bytes({"e.jpg": b"x"}).replace(b"e.jpg", b"\x82.jpg")  # é in code page 437
    (member,) = read_members(write(tmp_path / "a.zip", data), LIMIT)
    assert member.name == "é.jpg"


def test_a_zip_name_that_belies_its_encoding_is_damage(tmp_path):
    data = zip_bytes({"é.jpg": b"x"}).replace("é".encode(), b"\xff\xfe")
    with pytest.raises(UserError, match="damaged"):
        list(read_members(write(tmp_path / "a.zip", data), LIMIT))


@pytest.mark.parametrize("make", [tar_bytes, zip_bytes])
def test_control_characters_in_names_are_spelt_out(make, tmp_path):
    path = write(tmp_path / "a", make({"30_0_0_1\r.jpg": b"", "a\nb\t\x7f.jpg": b""}))
    names = [member.name for member in read_members(path, LIMIT)]
    assert names == [r"30_0_0_1\x0d.jpg", r"a\x0ab\x09\x7f.jpg"]


def test_memory_stays_flat_over_thousands_of_members(tmp_path):
    path = tmp_path / "many.tar"
    block = bytes(512)
    with path.open("wb") as file:
        for number in range(20_000):
            info = tarfile.TarInfo(f"30_0_0_{number}.jpg")
            info.size = 10
            file.write(info.tobuf() + block)
        file.write(2 * block)
    members = read_members(path, LIMIT)
    for _ in range(1000):
        next(members)
    tracemalloc.start()
    remaining = sum(1 for _ in members)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert remaining == 19_000
    assert peak < 2 << 20  # the headers alone, if they were kept, would be some 20 MB


def test_archives_are_listed_by_name_without_hidden_ones(tmp_path):
    for name in ("b.tar", "a.zip", ".c.tar.partial", ".gitignore"):
        write(tmp_path / name, b"")
    (tmp_path / "folder").mkdir()
    assert [path.name for path in list_archives(tmp_path)] == ["a.zip", "b.tar"]


def test_a_folder_without_archives_says_what_to_run(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match="dvc repro download"):
            list_archives(folder)


# --- archives that would do harm ----------------------------------------------------------


def peak_of(read):
    """Return what reading gives or raises, and the memory that it took at most, in bytes."""
    tracemalloc.start()
    try:
        outcome = read()
    except UserError as error:
        outcome = error
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return outcome, peak


def header(kind, size, name="30_0_0_1.jpg"):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_tar_header_that_unpacks_to_much_is_not_read_into_memory(kind, tmp_path):
    data = gzip.compress(header(kind, 1 << 26) + bytes(1 << 26), 1)
    path = write(tmp_path / "a.tar.gz", data)
    del data
    outcome, peak = peak_of(lambda: list(read_members(path, LIMIT)))
    assert "a header of 67108864 bytes" in str(outcome)
    assert peak < 5 << 20


def test_a_chain_of_tar_headers_is_damage(tmp_path):
    link = header(tarfile.XHDTYPE, 12) + b"12 path=abc\n".ljust(512, b"\0")
    with pytest.raises(UserError, match="damaged"):
        list(read_members(write(tmp_path / "a.tar", link * 3000), LIMIT))


@pytest.mark.parametrize("name", ["GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.major"], ids=str)
def test_sparse_members_are_refused_before_their_lists_are_read(name, tmp_path):
    headers = {name: "1", "GNU.sparse.minor": "0"}
    info = tarfile.TarInfo("30_0_0_1.jpg")
    info.size = 1 << 20
    info.pax_headers = headers
    data = info.tobuf(tarfile.PAX_FORMAT) + bytes(1 << 20)
    with pytest.raises(UserError, match="sparse members are not read"):
        list(read_members(write(tmp_path / "a.tar", data), LIMIT))


def test_a_member_of_negative_size_is_damage(tmp_path):
    data = header(tarfile.REGTYPE, -512) + bytes(2048)
    with pytest.raises(UserError, match="damaged"):
        list(read_members(write(tmp_path / "a.tar", data), LIMIT))


def test_global_headers_do_not_pile_up(tmp_path):
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        for number in range(3000):
            record = f"{1000} k{number}=".encode().ljust(999, b"x") + b"\n"
            file.write(header(tarfile.XGLTYPE, 1000) + record.ljust(1024, b"\0"))
            file.write(header(tarfile.REGTYPE, 0, f"{number}.txt"))
        file.write(bytes(1024))
    number, peak = peak_of(lambda: sum(1 for _ in read_members(path, LIMIT)))
    assert number == 3000
    assert peak < 2 << 20


@pytest.mark.parametrize("behind", [False, True], ids=["member", "behind the end"])
def test_a_gzip_bomb_ends_at_the_limit(behind, tmp_path):
    size = 0 if behind else 1 << 27
    data = header(tarfile.REGTYPE, size) + bytes((1 << 27) + 1024)
    path = write(tmp_path / "a.tar.gz", gzip.compress(data, 1))
    del data
    outcome, peak = peak_of(lambda: list(read_members(path, LIMIT)))
    assert f"unpacks to more than detect.max_archive_bytes {LIMIT.max_archive_bytes}" in str(
        outcome
    )
    assert peak < 5 << 20


@pytest.mark.parametrize("behind", [False, True], ids=["member", "behind the end"])
def test_a_small_file_that_unpacks_to_much_more_than_pictures_do_is_damage(
    behind, tmp_path, monkeypatch
):
    monkeypatch.setattr("stages.raw.archives._SMALL", 1 << 24)
    start = header(tarfile.REGTYPE, 0 if behind else 10**9) + bytes(1024 if behind else 0)
    path = write(tmp_path / "a.tar", bz2.compress(start) + bz2.compress(bytes(10**6)) * 1000)
    begin = time.process_time()
    with pytest.raises(DamagedArchiveError, match="far more than pictures would"):
        list(read_members(path, limits(10**6, 1 << 36, 100)))
    assert time.process_time() - begin < 1


def test_a_small_archive_of_flat_drawings_is_whole(tmp_path):
    path = write(tmp_path / "a.tar", bz2.compress(tar_bytes({"a.bmp": bytes(20 << 20)})))
    assert 1000 * path.stat().st_size < 20 << 20
    (member,) = read_members(path, limits(1 << 26, 1 << 36, 100))
    assert member.data == bytes(20 << 20)


def test_a_zip_that_understates_a_size_is_not_unpacked_completely(tmp_path):
    data = bytearray(zip_bytes({"a.jpg": bytes(1 << 27)}))
    central = data.index(b"PK\x01\x02")
    data[central + 24 : central + 28] = (10).to_bytes(4, "little")
    path = write(tmp_path / "a.zip", data)
    outcome, peak = peak_of(lambda: list(read_members(path, LIMIT)))
    assert "damaged" in str(outcome)
    assert peak < 5 << 20


def test_a_zip_of_many_members_ends_at_the_limit_of_all_their_bytes(tmp_path):
    path = write(tmp_path / "a.zip", zip_bytes({f"{i}.jpg": bytes(1000) for i in range(9)}))
    members = read_members(path, changed(LIMIT, max_archive_bytes=5000))
    assert [next(members).path for _ in range(5)] == [f"{i}.jpg" for i in range(5)]
    with pytest.raises(UserError, match=r"detect\.max_archive_bytes 5000"):
        next(members)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_members_that_would_be_unpacked_without_bounds_are_not_read(method, tmp_path):
    path = write(tmp_path / "a.zip", zip_bytes({"a.jpg": bytes(1000)}, method))
    (member,) = read_members(path, LIMIT)
    assert (member.data, member.problem) == (None, f"compression type {method} is not read")


def test_a_link_in_a_zip_is_reported_and_not_followed(tmp_path):
    info = zipfile.ZipInfo("30_0_0_1.jpg")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    (member,) = read_members(tmp_path / "a.zip", LIMIT)
    assert (member.data, member.problem) == (None, LINK)


def test_a_folder_of_a_zip_that_holds_bytes_is_reported(tmp_path):
    path = write(tmp_path / "a.zip", zip_bytes({"a.jpg/": b"bytes", "b/": b""}))
    (member,) = read_members(path, LIMIT)
    assert (member.path, member.problem) == ("a.jpg/", "a folder that holds bytes")


@pytest.mark.parametrize("lost", ["last", "middle", "first"])
def test_a_member_that_the_directory_of_a_zip_lacks_is_damage(lost, tmp_path):
    whole = FORMATS["a.zip"]
    start, end = whole.index(b"PK\x01\x02"), whole.index(b"PK\x05\x06")
    entries = [b"PK\x01\x02" + entry for entry in whole[start:end].split(b"PK\x01\x02")[1:]]
    del entries[{"first": 0, "middle": 2, "last": -1}[lost]]
    directory, tail = b"".join(entries), bytearray(whole[end:])
    tail[8:10] = tail[10:12] = len(entries).to_bytes(2, "little")
    tail[12:16] = len(directory).to_bytes(4, "little")
    path = write(tmp_path / "a.zip", whole[:start] + directory + bytes(tail))
    assert len(zipfile.ZipFile(path).namelist()) == len(FILES) - 1
    with pytest.raises(DamagedArchiveError, match=r"lists no member in the|before its first"):
        list(read_members(path, LIMIT))


def test_members_that_share_bytes_are_refused(tmp_path):
    # Many entries, one compressed text: https://www.bamsoftware.com/hacks/zipbomb/.
    whole = zip_bytes(
        {f"{number}.jpg": bytes(100_000) for number in range(3)}, zipfile.ZIP_DEFLATED
    )
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        places = [info.header_offset for info in archive.infolist()]
    start = whole.index(b"PK\x01\x02")
    directory = bytearray(whole[start:])
    second = directory.index(b"PK\x01\x02", 4)
    directory[second + 42 : second + 46] = places[0].to_bytes(4, "little")
    path = write(tmp_path / "a.zip", whole[:start] + bytes(directory))
    with pytest.raises(DamagedArchiveError, match=r"the member .* overlaps the next one"):
        list(read_members(path, LIMIT))


@pytest.mark.parametrize("make", [tar_bytes, zip_bytes])
def test_members_beyond_the_limit_end_the_archive(make, tmp_path):
    limits = changed(LIMIT, max_members=len(FILES) - 1)
    with pytest.raises(UserError, match=r"more members than detect\.max_members 4"):
        list(read_members(write(tmp_path / "a", make(FILES)), limits))
    assert len(list(read_members(tmp_path / "a", changed(limits, max_members=len(FILES))))) == 5


def test_folders_in_a_tar_count_and_do_not_pile_up(tmp_path):
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        for number in range(20_000):
            file.write(header(tarfile.DIRTYPE, 0, f"{number}"))
        file.write(bytes(1024))
    outcome, peak = peak_of(lambda: list(read_members(path, LIMIT)))
    assert "contains no files" in str(outcome)
    assert peak < 2 << 20
    with pytest.raises(UserError, match=r"more members than detect\.max_members 10"):
        list(read_members(path, changed(LIMIT, max_members=10)))


def test_the_directory_of_a_zip_is_bounded_before_it_is_kept(tmp_path):
    entries = 100_000
    name = b"x" * 54
    entry = b"PK\x01\x02" + bytes(24) + len(name).to_bytes(2, "little") + bytes(16) + name
    end = b"PK\x05\x06" + bytes(4) + b"\xff\xff\xff\xff"
    end += (entries * len(entry)).to_bytes(4, "little") + bytes(6)
    path = write(tmp_path / "a.zip", entry * entries + end)
    outcome, peak = peak_of(lambda: list(read_members(path, LIMIT)))
    assert "more members than detect.max_members 50000" in str(outcome)
    assert peak < 12 << 20, "the directory's own bytes"
    outcome, peak = peak_of(lambda: list(read_members(path, changed(LIMIT, max_members=100))))
    assert "a directory of 10000000 bytes" in str(outcome)
    assert peak < 1 << 20


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_a_damaged_archive_can_end_with_a_member_that_gives_the_reason(name, tmp_path):
    path = write(tmp_path / name, FORMATS[name][:9000])
    *whole, last = read_members(path, LIMIT, keep_damaged=True)
    assert [member.data for member in whole] == list(FILES.values())[: len(whole)]
    assert (last.archive, last.name, last.data) == (name, name, None)
    assert last.problem.startswith(f"after {len(whole)} members: damaged")
    assert (len(whole) > 0) == (name != "a.zip"), "a zip's directory stands at its end"


def test_a_disk_that_fails_is_no_damage(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tar", FORMATS["a.tar"])

    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    members = read_members(path, LIMIT, keep_damaged=True)
    next(members)
    monkeypatch.setattr("stages.raw.archives._Bounded.read", fail)
    with pytest.raises(UserError, match=r"a\.tar: cannot be read: Input/output error"):
        list(members)


def test_a_tar_in_a_tar_is_a_member(tmp_path):
    files = {"inner.tar": FORMATS["a.tar"], "30_0_0_1.jpg": FORMATS["a.tar.gz"]}
    members = list(read_members(write(tmp_path / "a.tar", tar_bytes(files)), LIMIT))
    assert {member.path: member.data for member in members} == files


def test_formulas_in_names_of_members_and_archives_are_spelt_out(tmp_path):
    path = write(tmp_path / "=a.tar", tar_bytes({"@x/-1.jpg": b"", "+2.jpg": b""}))
    members = list(read_members(path, LIMIT))
    assert {member.archive for member in members} == {r"\x3da.tar"}
    assert [member.path for member in members] == [r"\x40x/\x2d1.jpg", r"\x2b2.jpg"]
    assert [member.name for member in members] == [r"\x2d1.jpg", r"\x2b2.jpg"]
