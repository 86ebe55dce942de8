"""The raw archives: the user's own, and the official ones from a mirror on loopback."""

import functools
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stages.acquisition import sources
from stages.acquisition.sources import LICENCE, OFFICIAL, fetch_official, pack_folder, take_local
from stages.core.errors import UserError
from stages.raw.archives import LINK, SPECIAL, list_archives, read_members
from stages.weights import fetch
from tests.settings import limits

TOP = Path(__file__).parents[2]
LIMIT = limits(10**6, 1 << 34, 10**6)

FILES = {"30_0_0_1.jpg": b"one", "40_1_2_2.jpg": b"two" * 999, "deep/50_1_3_3.jpg": b""}
WILD = list(OFFICIAL["utkface-wild"])


def write_tar(path, files=FILES, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_files(folder, files=FILES):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def contents(archive):
    return {member.path: member.data for member in read_members(archive, LIMIT)}


class Mirror(ThreadingHTTPServer):
    """A server of a folder that counts requests and, if configured, hangs up after some bytes."""

    daemon_threads = True

    def __init__(self, folder: Path):
        self.folder = folder
        self.asked: list[str] = []
        self.cut: int | None = None
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(SimpleHTTPRequestHandler):
    server: Mirror

    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()

    def copyfile(self, source, outputfile):
        outputfile.write(source.read(self.server.cut))

    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(tmp_path):
    folder = tmp_path / "mirror"
    folder.mkdir()
    for number, name in enumerate(WILD):
        write_tar(folder / name, {f"part/{number}_{path}": data for path, data in FILES.items()})
    with Mirror(folder) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


# --- the user's own archives and folders ------------------------------------------------


def test_archives_are_copied_byte_for_byte_under_their_names(tmp_path, raw):
    first = write_tar(tmp_path / "a.tar.gz")
    second = tmp_path / "b.zip"
    with zipfile.ZipFile(second, "w") as archive:
        archive.writestr("30_0_0_1.jpg", b"one")
    assert take_local([str(first), str(second)], raw) == [raw / "a.tar.gz", raw / "b.zip"]
    assert (raw / "a.tar.gz").read_bytes() == first.read_bytes()
    assert (raw / "b.zip").read_bytes() == second.read_bytes()


def test_a_folder_is_packed_with_all_its_files_below_its_name(tmp_path, raw):
    folder = write_files(tmp_path / "my faces")
    assert take_local([str(folder)], raw) == [raw / "my faces.tar"]
    expected = {f"my faces/{name}": data for name, data in FILES.items()}
    assert contents(raw / "my faces.tar") == expected


def test_a_folder_named_by_a_dot_or_a_trailing_slash_is_packed_under_its_name(
    tmp_path, raw, monkeypatch
):
    monkeypatch.chdir(write_files(tmp_path / "set"))
    assert take_local(["."], raw) == [raw / "set.tar"]
    assert take_local([f"{tmp_path}/set/"], raw) == [raw / "set.tar"]
    assert set(contents(raw / "set.tar")) == {f"set/{name}" for name in FILES}


def test_a_path_in_the_home_folder_may_begin_with_a_tilde(tmp_path, raw, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_tar(tmp_path / "a.tar.gz")
    assert take_local(["~/a.tar.gz"], raw) == [raw / "a.tar.gz"]


def test_an_archive_with_a_wrong_suffix_is_taken(tmp_path, raw):
    write_tar(tmp_path / "faces.zip")
    (path,) = take_local([str(tmp_path / "faces.zip")], raw)
    assert contents(path) == FILES


def test_an_archive_that_is_already_at_its_target_is_unchanged(raw):
    before = write_tar(raw / "a.tar.gz").read_bytes()
    assert take_local([str(raw / "a.tar.gz")], raw) == [raw / "a.tar.gz"]
    assert (raw / "a.tar.gz").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "data"), [("notes.txt", b"text"), ("a.tar.gz", b"\x1f\x8b\x08"), ("a.tar", b"")]
)
def test_a_file_that_is_no_archive_is_refused_by_its_name(name, data, tmp_path, raw):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=rf"data\.local: .*{name} is neither a \.tar"):
        take_local([str(tmp_path / name)], raw)


@pytest.mark.parametrize("folder", [False, True])
def test_what_is_hidden_is_refused_and_not_left_out_silently(folder, tmp_path, raw):
    source = tmp_path / ".faces.tar"
    if folder:
        source.mkdir()
        (source / "30_0_0_1.jpg").write_bytes(b"data")
    else:
        with tarfile.open(source, "w"):
            pass
    with pytest.raises(UserError, match=r"data\.local: .*\.faces\.tar is hidden"):
        take_local([str(source)], raw)
    assert not raw.exists() or not list(raw.iterdir())


def test_a_name_that_the_checksums_have_is_refused(tmp_path, raw):
    whole = write_tar(tmp_path / "SHA256SUMS")
    with pytest.raises(UserError, match=r"SHA256SUMS is named like the checksums of data/raw"):
        take_local([str(whole)], raw)


def test_a_missing_path_is_refused_before_anything_is_copied(tmp_path, raw):
    whole = write_tar(tmp_path / "a.tar.gz")
    with pytest.raises(UserError, match=r"data\.local: .*absent\.tar does not exist"):
        take_local([str(whole), str(tmp_path / "absent.tar")], raw)
    assert list(raw.iterdir()) == []


def test_two_sources_of_one_name_are_refused(tmp_path, raw):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_tar(tmp_path / folder / "a.tar.gz")
    with pytest.raises(UserError, match=r"one/a\.tar\.gz and .*two/a\.tar\.gz would both be"):
        take_local([str(tmp_path / folder / "a.tar.gz") for folder in ("one", "two")], raw)
    folder, archive = write_files(tmp_path / "b"), write_tar(tmp_path / "b.tar")
    with pytest.raises(UserError, match="rename one"):
        take_local([str(folder), str(archive)], raw)


def test_a_folder_without_files_is_refused(tmp_path, raw):
    (tmp_path / "set" / "sub").mkdir(parents=True)
    with pytest.raises(UserError, match="set contains no file"):
        take_local([str(tmp_path / "set")], raw)


def test_a_packed_folder_depends_on_names_and_contents_alone(tmp_path):
    packed = []
    for place, names in (("one", list(FILES)), ("two", list(reversed(FILES)))):
        folder = write_files(tmp_path / place / "set", {name: FILES[name] for name in names})
        for number, path in enumerate(sorted(folder.rglob("*"))):
            path.chmod(0o755 if place == "one" else 0o700)
            os.utime(path, (number, 10**9 + number * (1 if place == "one" else 7)))
        pack_folder(folder, tmp_path / f"{place}.tar")
        packed.append((tmp_path / f"{place}.tar").read_bytes())
    assert packed[0] == packed[1]


def test_the_files_of_a_packed_folder_stand_in_the_order_of_their_paths(tmp_path):
    names = ["b/2.jpg", "a/3.jpg", "c.jpg", "a/1.jpg"]
    pack_folder(write_files(tmp_path / "set", dict.fromkeys(names, b"")), tmp_path / "set.tar")
    expected = [f"set/{name}" for name in ("a/1.jpg", "a/3.jpg", "b/2.jpg", "c.jpg")]
    assert list(contents(tmp_path / "set.tar")) == expected


def test_a_folder_with_odd_names_is_packed_completely(tmp_path):
    names = ["größe.jpg", "日本.jpg", "a\nb.jpg", "x" * 200 + ".jpg", os.fsdecode(b"\xff.jpg")]
    pack_folder(write_files(tmp_path / "set", dict.fromkeys(names, b"data")), tmp_path / "set.tar")
    packed = contents(tmp_path / "set.tar")
    assert set(packed.values()) == {b"data"}
    expected = {"größe.jpg", "日本.jpg", r"a\x0ab.jpg", "x" * 200 + ".jpg", r"\xff.jpg"}
    assert {Path(path).name for path in packed} == expected


def linked(tmp_path: Path) -> Path:
    """A folder with a file, and links to a file and to a folder outside of it."""
    elsewhere = write_files(tmp_path / "elsewhere", {"1.jpg": b"secret"})
    folder = write_files(tmp_path / "set", {"a.jpg": b"data"})
    (folder / "file.jpg").symlink_to(elsewhere / "1.jpg")
    (folder / "folder").symlink_to(elsewhere)
    return folder


def test_links_are_not_followed_and_each_is_told(tmp_path, raw):
    take_local([str(linked(tmp_path))], raw)
    packed = {m.name: (m.data, m.problem) for m in read_members(raw / "set.tar", LIMIT)}
    assert packed == {"a.jpg": (b"data", ""), "file.jpg": (None, LINK), "folder": (None, LINK)}
    assert b"elsewhere" not in (raw / "set.tar").read_bytes()


def test_links_are_followed_where_a_param_says_so(tmp_path, raw):
    take_local([str(linked(tmp_path))], raw, follow_links=True)
    packed = {m.path: m.data for m in read_members(raw / "set.tar", LIMIT)}
    assert packed == {
        "set/a.jpg": b"data",
        "set/file.jpg": b"secret",
        "set/folder/1.jpg": b"secret",
    }


def test_a_link_to_a_folder_in_which_it_lies_is_refused(tmp_path, raw):
    folder = write_files(tmp_path / "set", {"a.jpg": b"data"})
    (folder / "inner").mkdir()
    (folder / "inner" / "loop").symlink_to(folder)
    with pytest.raises(UserError, match=r"inner/loop: a link to a folder in which it lies"):
        take_local([str(folder)], raw, follow_links=True)


def test_folders_that_link_to_each_other_are_read_once(tmp_path, raw):
    for one in "abcdefgh":  # followed to the system's limit of 40 links, these are 7 ** 40 paths
        write_files(tmp_path / "set" / one, {"1_0_0_1.jpg": b"data"})
        for other in set("abcdefgh") - {one}:
            (tmp_path / "set" / one / other).symlink_to(tmp_path / "set" / other)
    (tmp_path / "linked").symlink_to(tmp_path / "set" / "a")
    take_local([str(tmp_path / "set")], raw, follow_links=True)
    members = {m.path: m.problem for m in read_members(raw / "set.tar", LIMIT)}
    files = [f"set/{one}/1_0_0_1.jpg" for one in "abcdefgh"]
    assert sorted(path for path in members if not members[path]) == files
    assert [members[path] for path in members if members[path]] == [LINK] * 7 * 8
    with pytest.raises(UserError, match="a link to a folder in which it lies"):
        take_local([str(tmp_path / "linked")], raw, follow_links=True)


def test_a_folder_to_which_many_links_lead_is_read_once(tmp_path, raw):
    for number in range(31):  # 2 ** 30 paths
        folder = write_files(tmp_path / f"{number}", {f"{number}.jpg": b"data"})
        for link in "xy" if number < 30 else "":
            (folder / link).symlink_to(tmp_path / f"{number + 1}")
    (folder / "itself").symlink_to(folder / "itself")
    take_local([str(tmp_path / "0")], raw, follow_links=True)
    members = list(read_members(raw / "0.tar", LIMIT))
    read = [member.path for member in members if member.data is not None]
    assert read == [f"0/{'x/' * number}{number}.jpg" for number in range(31)]
    problems = {member.path: member.problem for member in members if member.problem}
    told = {f"0/{'x/' * number}y": LINK for number in range(30)}
    assert problems == told | {f"0/{'x/' * 30}itself": LINK}


def test_a_pipe_in_a_folder_is_told_and_not_read(tmp_path, raw):
    folder = write_files(tmp_path / "set", {"a.jpg": b"data"})
    os.mkfifo(folder / "1_0_0_1.jpg")
    take_local([str(folder)], raw)
    problems = {m.name: m.problem for m in read_members(raw / "set.tar", LIMIT)}
    assert problems == {"1_0_0_1.jpg": SPECIAL, "a.jpg": ""}


def test_a_folder_that_cannot_be_read_is_refused(tmp_path, raw):
    folder = write_files(tmp_path / "set", {"a.jpg": b"data", "closed/b.jpg": b"data"})
    # Root reads everything; without these two of its rights it does not.
    without = "-dac_override,-dac_read_search"
    wrapper = ["setpriv", f"--bounding-set={without}", f"--inh-caps={without}"]
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root without setpriv: NOT TESTED with an unreadable folder")
    script = "import pathlib, sys; from stages.acquisition.sources import take_local; "
    script += "take_local([sys.argv[1]], pathlib.Path(sys.argv[2]))"
    command = [*(wrapper if os.geteuid() == 0 else []), sys.executable, "-c", script]
    (folder / "closed").chmod(0)
    try:
        ran = subprocess.run(
            [*command, str(folder), str(raw)], cwd=TOP, capture_output=True, text=True
        )
    finally:
        (folder / "closed").chmod(0o755)
    assert "UserError" in ran.stderr
    assert ran.stderr.endswith("set/closed: cannot be read: Permission denied\n")


def test_a_file_that_becomes_shorter_is_refused(tmp_path, raw, monkeypatch):
    folder = write_files(tmp_path / "set", {"a.jpg": b"data"})
    size = os.stat_result

    def longer(descriptor: int) -> os.stat_result:
        known = list(os.stat(descriptor))
        known[6] += 100_000
        return size(known)

    monkeypatch.setattr(sources.os, "fstat", longer)
    with pytest.raises(UserError, match=r"a\.jpg became shorter while it was read"):
        take_local([str(folder)], raw)
    assert list(raw.iterdir()) == []


def test_a_folder_whose_name_leaves_no_room_for_a_suffix_is_refused(tmp_path, raw):
    folder = write_files(tmp_path / ("x" * 253), {"a.jpg": b"data"})
    with pytest.raises(UserError, match="its name is too long for"):
        take_local([str(folder)], raw)


def test_an_interrupted_packing_leaves_nothing(tmp_path, raw, monkeypatch):
    folder = write_files(tmp_path / "set")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tarfile.TarFile, "addfile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack_folder(folder, raw / "set.tar")
    assert list(raw.iterdir()) == []


# --- the official archives ----------------------------------------------------------------


def test_the_archives_of_a_mirror_are_fetched_in_their_order(mirror, raw):
    paths = fetch_official("utkface-wild", raw, f"{mirror.address}/")
    assert paths == [raw / name for name in WILD]
    assert mirror.asked == [f"/{name}" for name in WILD]
    for path in paths:
        assert path.read_bytes() == (mirror.folder / path.name).read_bytes()
    assert list_archives(raw) == paths
    assert sorted(raw.iterdir()) == paths


def test_existing_complete_archives_are_not_fetched_again(mirror, raw):
    fetch_official("utkface-wild", raw, mirror.address)
    mirror.asked.clear()
    assert fetch_official("utkface-wild", raw, mirror.address) == [raw / name for name in WILD]
    assert mirror.asked == []


def test_the_licence_is_shown_at_every_fetch(mirror, raw, capsys):
    for _ in range(2):
        fetch_official("utkface-wild", raw, mirror.address)
        assert LICENCE in capsys.readouterr().err
    assert "non-commercial research" in LICENCE


def test_the_licence_is_shown_before_anything_is_fetched(mirror, raw, capsys):
    (mirror.folder / WILD[0]).unlink()
    with pytest.raises(UserError):
        fetch_official("utkface-wild", raw, mirror.address)
    assert LICENCE in capsys.readouterr().err


def test_another_number_of_files_than_the_release_has_is_a_warning(
    mirror, raw, capsys, monkeypatch
):
    fetch_official("utkface-wild", raw, mirror.address)
    messages = capsys.readouterr().err
    for name, images in zip(WILD, ("10,137", "10,719", "3,253"), strict=True):
        assert f"{name}: 3 files" in messages
        assert images in messages
    monkeypatch.setitem(OFFICIAL, "utkface-wild", dict.fromkeys(WILD, ("id", 3)))
    fetch_official("utkface-wild", raw, mirror.address)
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["cut", "bit", "checksum", "text"])
def test_a_damaged_archive_is_refused_and_removed(damage, mirror, raw):
    served = mirror.folder / WILD[1]
    data = bytearray(served.read_bytes())
    if damage == "cut":
        del data[-3:]
    elif damage == "bit":
        data[len(data) // 2] ^= 1
    elif damage == "checksum":
        data[-6] ^= 1
    else:
        data = bytearray(b"quota exceeded\n" * 99)
    served.write_bytes(data)
    with pytest.raises(UserError, match=r"part2\.tar\.gz: damaged or not a tar"):
        fetch_official("utkface-wild", raw, mirror.address)
    assert list(raw.iterdir()) == [raw / WILD[0]]


def test_a_damaged_archive_of_an_earlier_run_is_refused_and_fetched_the_next_time(mirror, raw):
    (raw / WILD[0]).write_bytes((mirror.folder / WILD[0]).read_bytes()[:-8])
    with pytest.raises(UserError, match="damaged"):
        fetch_official("utkface-wild", raw, mirror.address)
    fetch_official("utkface-wild", raw, mirror.address)
    assert (raw / WILD[0]).read_bytes() == (mirror.folder / WILD[0]).read_bytes()


def test_an_interrupted_archive_never_appears_complete(mirror, raw, monkeypatch):
    monkeypatch.setattr(fetch, "PAUSE_AFTER_CUT", 0)
    mirror.cut = 100
    with pytest.raises(UserError, match="interrupted"):
        fetch_official("utkface-wild", raw, mirror.address)
    assert all(path.name.startswith(".") for path in raw.iterdir())
    with pytest.raises(UserError, match="no archive"):
        list_archives(raw)
    mirror.cut = None
    paths = fetch_official("utkface-wild", raw, mirror.address)
    assert list_archives(raw) == paths
    assert (raw / WILD[0]).read_bytes() == (mirror.folder / WILD[0]).read_bytes()


def test_an_archive_that_the_mirror_lacks_is_an_error_with_its_address(mirror, raw):
    (mirror.folder / WILD[2]).unlink()
    with pytest.raises(UserError, match=r"http://127.*part3\.tar\.gz.* 404"):
        fetch_official("utkface-wild", raw, mirror.address)
    assert sorted(raw.iterdir()) == [raw / name for name in WILD[:2]]


def test_the_aligned_release_is_one_archive(mirror, raw):
    write_tar(mirror.folder / "UTKFace.tar.gz")
    assert fetch_official("utkface-aligned", raw, mirror.address) == [raw / "UTKFace.tar.gz"]


def test_without_a_mirror_each_archive_is_asked_of_google_drive_by_its_id(mirror, raw, monkeypatch):
    asked = {}

    def drive(file_id, target):  # there is no Google Drive on loopback
        asked[target.name] = file_id
        target.write_bytes((mirror.folder / target.name).read_bytes())

    monkeypatch.setattr(sources, "google_drive", drive)
    fetch_official("utkface-wild", raw, None)
    assert asked == {name: drive_id for name, (drive_id, _) in OFFICIAL["utkface-wild"].items()}
    assert mirror.asked == []
