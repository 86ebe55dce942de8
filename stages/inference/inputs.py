"""Read images that a user names; what cannot be read becomes a member with a problem."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from stages.core.errors import UserError, lacks_memory
from stages.core.sections import ArchiveLimits
from stages.raw.archives import (
    LINK,
    SPECIAL,
    DamagedArchiveError,
    Member,
    is_archive,
    read_members,
    too_large,
)
from stages.raw.folders import walk
from stages.raw.names import spell

STANDARD_INPUT = "-"
LIMITS = ArchiveLimits(max_file_bytes=1 << 26, max_archive_bytes=1 << 36, max_members=2_000_000)


def read_inputs(
    places: Iterable[str], limits: ArchiveLimits, standard_input: BinaryIO
) -> Iterator[Member]:
    """Yield every image; the path of a member is the name by which a user knows it.

    A place is an image, a folder (searched recursively, sorted, without hidden files), an archive,
    or `-`, one image on standard input. What is above the limits becomes a member with a problem.
    """
    for place in places:
        if place == STANDARD_INPUT:
            yield _read_member(STANDARD_INPUT, standard_input, limits)
        else:
            yield from _read_path(Path(place), limits)


def _read_path(place: Path, limits: ArchiveLimits, found: bool = False) -> Iterator[Member]:
    """Read a place; what was `found` in a folder, and not named, must be a plain file."""
    try:
        if found and (place.is_symlink() or not place.is_file()):
            yield _problem(place, LINK if place.is_symlink() else SPECIAL)
        elif place.is_dir():
            yield from _read_folder(place, limits)
        elif place.is_file() and is_archive(place):
            for member in read_members(place, limits):
                yield replace(member, path=f"{spell(str(place))}/{member.path}")
        else:  # a pipe can be read only once, so it is not probed for an archive
            with place.open("rb") as file:
                yield _read_member(str(place), file, limits)
    except OSError as error:
        if lacks_memory(error):
            raise
        yield _problem(place, error.strerror or str(error))
    except UserError as error:
        yield _problem(place, error.fault if isinstance(error, DamagedArchiveError) else str(error))


def _read_folder(place: Path, limits: ArchiveLimits) -> Iterator[Member]:
    unread: list[OSError] = []
    found = list(walk(place, onerror=unread.append))
    problems = {Path(error.filename): f"cannot be read: {error.strerror}" for error in unread}
    inside = (path.relative_to(place) for path in (*found, *problems))
    visible = sorted(path for path in inside if not any(p.startswith(".") for p in path.parts))
    if not visible:
        yield _problem(place, "a folder without files")
    for path in (place / path for path in visible):
        if path in problems:
            yield _problem(path, problems[path])
        else:
            yield from _read_path(path, limits, found=True)


def _read_member(place: str, file: BinaryIO, limits: ArchiveLimits) -> Member:
    data = file.read(limits.max_file_bytes + 1)
    if len(data) > limits.max_file_bytes:
        return _problem(place, too_large(len(data), limits))
    return Member("", place if place == STANDARD_INPUT else spell(place), data)


def _problem(place: Path | str, text: str) -> Member:
    return Member("", spell(str(place)), None, text)
