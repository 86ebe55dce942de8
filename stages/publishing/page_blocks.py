"""Blocks of Markdown pages that `utkface-mtl publish` fills with figures.

A block is what stands between two comments, each on a line of its own:

    <!-- make publish: comparison -->
    <!-- end -->
"""

import re
from collections.abc import Mapping

from stages.core.errors import UserError

_START = re.compile(r"^<!-- make publish: (.*) -->$")
_END = "<!-- end -->"


def fill_blocks(page: str, text: str, blocks: Mapping[str, str | None]) -> str:
    """Replace the content of the blocks of a page.

    Args:
        page: its name, for errors.
        text: the page.
        blocks: Markdown by the name of the block; None keeps the old content.

    Raises:
        UserError: a block is unknown, or lacks its start or its end.
    """
    lines: list[str] = []
    open_block = None
    for line in text.splitlines():
        if start := _START.match(line):
            if open_block is not None:
                raise UserError(f"{page}: block {open_block!r} has no {_END}")
            open_block = start[1]
            if open_block not in blocks:
                known = ", ".join(blocks)
                raise UserError(f"{page}: unknown block {open_block!r}; known: {known}")
            content = (blocks[open_block] or "").strip()
            lines += [line, *(["", content, ""] if content else [])]
        elif line == _END:
            if open_block is None:
                raise UserError(f"{page}: {_END} without the start of a block")
            open_block = None
        elif open_block is not None and blocks[open_block] is None:
            lines.append(line)
        if open_block is None:
            lines.append(line)
    if open_block is not None:
        raise UserError(f"{page}: block {open_block!r} has no {_END}")
    return "\n".join(lines) + "\n"


def describe_audit(audit: Mapping[str, object], published: Mapping[str, object]) -> str:
    """The outcome of the audit in two sentences (Markdown).

    Args:
        audit: the content of metrics/audit.json.
        published: its `published_protocol`.
    """
    return (
        f"Of the {published['test_images']:,} test images of the published protocol, "
        f"{published['trained_on']:,} ({published['trained_on_share']:.1%}) are training images, "
        f"and of {published['copies_trained_on']:,} more "
        f"({published['copies_trained_on_share']:.1%}) a copy is. The audit of the {audit['runs']} "
        f"honest runs with {audit['test_images']:,} test images compared each test image with "
        f"each training and validation image of its run, {audit['pairs_checked']:,} pairs in all, "
        f"and found {audit['leaks']} leaks."
    )


def describe_search(table: str, picture: str) -> str:
    """A search's page without its title, and its picture (Markdown)."""
    return f"{table.split(chr(10), 1)[1].strip()}\n\n{picture}"


def describe_split(link: str, sizes: Mapping[str, int]) -> str:
    """A sentence (Markdown) on a split file: its link and the number of images by split."""
    listed = ", ".join(f"{number:,} {split}" for split, number in sizes.items())
    return f"[{link}]({link}): the split of each of {sum(sizes.values()):,} images ({listed})."
