"""What a folder holds, links and all; nothing is left out without a word."""

import heapq
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from stages.core.errors import UserError


def walk(
    folder: Path, follow_links: bool = False, onerror: Callable[[OSError], object] | None = None
) -> Iterator[Path]:
    """Yield all that is no folder, and links to folders unless they are followed, in any order.

    Links are followed after all else, sorted, each to a folder that is not read yet; the others are
    yielded. `onerror` is called where a folder (`filename`) cannot be read; the rest is yielded.

    Raises UserError for a link that leads into a folder in which it lies or through which it was
    reached, and for a folder that cannot be read if there is no `onerror`.
    """
    # With each folder, where those above it and, last, it itself truly lie.
    folders: list[tuple[Path, tuple[Path, ...]]] = [(folder, (folder.resolve(),))]
    links, read = folders[:0], set[Path]()
    while folders or links:
        is_link = not folders
        path, above = heapq.heappop(links) if is_link else folders.pop()
        if is_link and above[-1] in read:
            yield path
            continue
        read.add(above[-1])
        for entry in _entries(path, onerror):
            inside = path / entry.name
            if not _is_folder(entry, follow_links):
                yield inside
            elif not entry.is_symlink():
                folders.append((inside, (*above, above[-1] / entry.name)))
            else:
                place = inside.resolve()
                if any(other.is_relative_to(place) for other in above):
                    raise UserError(f"{inside}: a link to a folder in which it lies; remove it")
                heapq.heappush(links, (inside, (*above, place)))


def _entries(folder: Path, onerror: Callable[[OSError], object] | None) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        if onerror is None:
            raise UserError(f"{folder}: cannot be read: {error.strerror}") from error
        onerror(error)
        return []


def _is_folder(entry: "os.DirEntry[str]", follow_links: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_links)
    except OSError:  # a link to itself
        return False
