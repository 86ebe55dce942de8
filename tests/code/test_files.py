"""Files are whole or absent, whatever happens while they are written."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from stages.core.errors import UserError
from stages.core.files import (
    atomic_write,
    digest,
    partial_path,
    read_json,
    remove_others,
    write_csv,
    write_json,
)

TOP = Path(__file__).parents[2]
KILLED = """
import os, signal, sys
from pathlib import Path
from stages.core.files import atomic_write
with atomic_write(Path(sys.argv[1])) as partial:
    partial.write_text("a first half that is longer than what comes later")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def write_half(target: Path, then: BaseException) -> None:
    with atomic_write(target) as partial:
        partial.write_text("half")
        raise then


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path):
    target = tmp_path / "new" / "folder" / "file.txt"
    with atomic_write(target) as partial:
        partial.write_text("content")
        assert not target.exists()
        assert partial.parent == target.parent, "a move to another disk is not one step"
    assert target.read_text() == "content"
    assert list(target.parent.iterdir()) == [target]


def test_an_exception_leaves_nothing(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        write_half(tmp_path / "file.txt", KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


def test_an_exception_keeps_the_file_that_was_there(tmp_path: Path):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(OSError, match="disk full"):
        write_half(target, OSError("disk full"))
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_killed_process_leaves_no_final_file_and_the_next_attempt_succeeds(tmp_path: Path):
    target = tmp_path / "file.txt"
    done = subprocess.run([sys.executable, "-c", KILLED, str(target)], cwd=TOP, check=False)
    assert done.returncode == -signal.SIGKILL
    assert partial_path(target).exists()
    assert not target.exists()
    with atomic_write(target) as partial:
        partial.write_text("whole")
    assert target.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [target]


def test_a_device_or_pipe_is_not_replaced(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    refused = pytest.raises(UserError, match="pipe: is a device, pipe or socket")
    with refused, atomic_write(tmp_path / "pipe"):
        pass
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("path", ["/proc/x", "/proc/x/y", "", "/tmp", ".."])
def test_a_place_that_takes_no_file_is_named(path: str):
    refused = pytest.raises(UserError, match=r"no file can be made here|is a folder; name a file")
    with refused, atomic_write(Path(path)) as partial:
        partial.write_text("whole")
    assert Path(path).is_dir() or not Path(path).exists()
    assert not partial_path(Path("/tmp")).exists()


def test_a_missing_file_in_the_making_of_another_stays_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "file.txt"):
        (tmp_path / "missing").read_bytes()


def test_remove_others_keeps_only_what_is_named(tmp_path: Path):
    kept, folder = tmp_path / "kept.txt", tmp_path / "kept"
    for path in (kept, tmp_path / "stale.txt", partial_path(kept)):
        path.write_text("x")
    for path in (folder, tmp_path / "stale"):
        path.mkdir()
        (path / "inside.txt").write_text("x")
    remove_others(tmp_path, [kept, folder])
    assert sorted(tmp_path.rglob("*")) == [folder, folder / "inside.txt", kept]


def test_json_keeps_its_order_and_csv_its_digits(tmp_path: Path):
    write_json(tmp_path / "a.json", {"z": 1, "a": None})
    assert list(json.loads((tmp_path / "a.json").read_text())) == ["z", "a"]
    write_csv(tmp_path / "a.csv", pd.DataFrame({"name": ["x"], "share": [1 / 3], "images": [12]}))
    assert (tmp_path / "a.csv").read_bytes() == b"name,share,images\nx,0.333333,12\n"


def test_json_that_is_missing_or_no_object_is_one_error(tmp_path: Path):
    path = tmp_path / "a.json"
    with pytest.raises(UserError, match=r"a\.json: missing; run `dvc repro audit`"):
        read_json(path, "audit")
    for content in (b"{", b"[]", b"\xff", b"[" * 10**5):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.json: malformed \(.*\); run `dvc repro -f audit`"):
            read_json(path, "audit")


def test_the_digest_is_that_of_all_bytes(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(b"\0" * ((1 << 20) + 1))
    assert digest(path, "md5") == hashlib.md5(path.read_bytes()).hexdigest()
