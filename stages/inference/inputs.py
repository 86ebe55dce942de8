"""Pictures as a user names them: files, folders, archives, standard input.

Whatever cannot be read comes as a member with a problem, in its place; nothing stops the rest.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from stages.core.errors import UserError
from stages.core.params import ArchiveLimits
from stages.dataset.archives import (
    DamagedArchiveError,
    Member,
    is_archive,
    read_members,
    too_large,
)
from stages.dataset.names import spell

STANDARD_INPUT = "-"
# What is read of a user's own files at most; of an image 64 MiB.
LIMITS = ArchiveLimits(max_file_bytes=1 << 26, max_archive_bytes=1 << 36, max_members=2_000_000)


def read_inputs(
    places: Iterable[str], limits: ArchiveLimits, standard_input: BinaryIO
) -> Iterator[Member]:
    """Yield every picture; the path of a member is how the user would name it.

    Args:
        places: images, folders (searched deeply, in order of the paths, without hidden files),
            archives, or `-`, one image on standard input.
        limits: of images and archives; what exceeds them has a problem in place of its bytes.
        standard_input: where `-` reads from.
    """
    for place in places:
        if place == STANDARD_INPUT:
            yield _member(STANDARD_INPUT, standard_input, limits)
        else:
            yield from _at(Path(place), limits)


def _at(place: Path, limits: ArchiveLimits) -> Iterator[Member]:
    try:
        if place.is_dir():
            yield from _in_folder(place, limits)
        elif place.is_file() and is_archive(place):
            yield from _in_archive(place, limits)
        else:  # a pipe can be read once, so it is no archive
            with place.open("rb") as file:
                yield _member(str(place), file, limits)
    except OSError as error:
        yield _problem(place, error.strerror or str(error))


def _in_folder(place: Path, limits: ArchiveLimits) -> Iterator[Member]:
    inside = (path.relative_to(place) for path in place.rglob("*") if path.is_file())
    visible = sorted(path for path in inside if not any(p.startswith(".") for p in path.parts))
    if not visible:
        yield _problem(place, "a folder without files")
    for path in visible:
        yield from _at(place / path, limits)


def _in_archive(place: Path, limits: ArchiveLimits) -> Iterator[Member]:
    try:
        for member in read_members(place, limits):
            yield replace(member, path=f"{spell(str(place))}/{member.path}")
    except DamagedArchiveError as error:
        yield _problem(place, error.fault)
    except UserError as error:  # it cannot be read, or exceeds a limit
        yield _problem(place, str(error))


def _member(place: str, file: BinaryIO, limits: ArchiveLimits) -> Member:
    data = file.read(limits.max_file_bytes + 1)
    if len(data) > limits.max_file_bytes:
        return _problem(place, too_large(len(data), limits))
    return Member("", place if place == STANDARD_INPUT else spell(place), data)


def _problem(place: Path | str, text: str) -> Member:
    return Member("", spell(str(place)), None, text)
