"""What a folder holds, links and all; nothing is left out without a word."""

import os
from collections.abc import Iterator
from pathlib import Path

from stages.core.errors import UserError


def walk(folder: Path, follow_links: bool = False) -> Iterator[Path]:
    """Yield all that is no folder, and links to folders unless they are followed, in any order.

    Raises UserError for a folder that cannot be read, and for a link that leads into a folder in
    which it lies or through which it was reached.
    """
    return _walk(folder, follow_links, (folder.resolve(),))


def _walk(folder: Path, follow_links: bool, above: tuple[Path, ...]) -> Iterator[Path]:
    """As `walk`; `above` is where the folder truly lies, after each link on the way to it."""
    with _listing(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            if not entry.is_dir(follow_symlinks=follow_links):
                yield path
                continue
            place = path.resolve()
            if entry.is_symlink() and any(other.is_relative_to(place) for other in above):
                raise UserError(f"{path}: a link to a folder in which it lies; remove it")
            yield from _walk(path, follow_links, (*above, place))


def _listing(folder: Path) -> "os._ScandirIterator[str]":
    try:
        return os.scandir(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}") from error
