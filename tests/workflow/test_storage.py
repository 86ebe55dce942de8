"""Archives that stay on S3: recorded, read member by member, never copied as a whole."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from storage import KEYS, s3_server

from stages.acquisition.demo import write_demo
from stages.acquisition.sources import fetch_official, take_local
from stages.core.errors import UserError
from stages.raw.archives import list_archives, read_members
from tests.settings import limits

LIMITS = limits(1 << 26, 1 << 36, 1_000_000)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3_server("faces") as found:
        yield found


@pytest.fixture
def store(address: str, monkeypatch: pytest.MonkeyPatch) -> object:
    for key, value in (KEYS | {"AWS_ENDPOINT_URL": address}).items():
        monkeypatch.setenv(key, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    return boto3.client("s3", endpoint_url=address)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drawn") / "demo.tar"
    write_demo(path, 60, 1)
    return path


def put(store: object, key: str, content: bytes) -> str:
    store.put_object(Bucket="faces", Key=key, Body=content)  # type: ignore[attr-defined]
    return f"s3://faces/{key}"


def contents(folder: Path) -> list[tuple[str, bytes | None, str]]:
    return [
        (member.path, member.data, member.problem)
        for archive in list_archives(folder)
        for member in read_members(archive, LIMITS)
    ]


@pytest.mark.parametrize("form", ["tar", "tar.gz", "zip"])
def test_members_are_those_of_a_copy_and_only_a_record_is_kept(
    store: object, archive: Path, tmp_path: Path, form: str
):
    import io
    import zipfile

    content = archive.read_bytes()
    if form == "tar.gz":
        content = gzip.compress(content, 1)
    elif form == "zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as packed:
            for member in read_members(archive, LIMITS):
                packed.writestr(member.path, member.data or b"")
        content = buffer.getvalue()
    copied, raw = tmp_path / "copied", tmp_path / "raw"
    copied.mkdir()
    raw.mkdir()
    (copied / f"demo.{form}").write_bytes(content)
    take_local([put(store, f"some/demo.{form}", content)], raw)
    assert [path.name for path in raw.iterdir()] == [f"demo.{form}.remote.json"]
    assert contents(raw) == contents(copied)
    record = json.loads(next(raw.iterdir()).read_text())
    assert (record["address"], record["size"]) == (f"s3://faces/some/demo.{form}", len(content))


def test_another_object_under_the_address_is_refused_until_it_is_recorded(
    store: object, archive: Path, tmp_path: Path
):
    place = put(store, "changing.tar", archive.read_bytes())
    take_local([place], tmp_path)
    first = (tmp_path / "changing.tar.remote.json").read_bytes()
    put(store, "changing.tar", archive.read_bytes() + bytes(1024))
    with pytest.raises(UserError, match=r"changing\.tar.*another object.*-f download"):
        contents(tmp_path)
    take_local([place], tmp_path)
    assert (tmp_path / "changing.tar.remote.json").read_bytes() != first, "DVC sees the change"
    assert contents(tmp_path)


def test_a_mirror_on_s3_is_recorded(store: object, archive: Path, tmp_path: Path):
    put(store, "mirror/UTKFace.tar.gz", gzip.compress(archive.read_bytes(), 1))
    (record,) = fetch_official("utkface-aligned", tmp_path, "s3://faces/mirror/")
    assert record.name == "UTKFace.tar.gz.remote.json"
    assert len(contents(tmp_path)) == 69


@pytest.mark.parametrize("key", ["missing.tar", "text.tar"])
def test_what_is_no_archive_is_one_clear_error(store: object, tmp_path: Path, key: str):
    put(store, "text.tar", b"no archive" * 1000)
    with pytest.raises(UserError, match=rf"s3://faces/{key}"):
        take_local([f"s3://faces/{key}"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_storage_that_stops_responding_is_a_read_error_not_a_damaged_archive(
    store: object, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from stages.raw import storage as remote

    monkeypatch.setattr(remote, "AHEAD", 1 << 16)
    take_local([put(store, "cut.tar", archive.read_bytes())], tmp_path)
    (found,) = list_archives(tmp_path)
    members = read_members(found, LIMITS, keep_damaged=True)
    next(members)
    store.delete_object(Bucket="faces", Key="cut.tar")  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"s3://faces/cut\.tar: cannot be read"):
        list(members)
