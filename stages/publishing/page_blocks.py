"""Blocks of Markdown pages that `utkface-mtl publish` fills with figures.

A block is what stands between two comments, each on a line of its own:

    <!-- make publish: comparison -->
    <!-- end -->
"""

import re
from collections.abc import Mapping
from typing import Any

from stages.core.errors import UserError

_START = re.compile(r"^<!-- make publish: (.*) -->$")
_END = "<!-- end -->"


def fill_blocks(page: str, text: str, blocks: Mapping[str, str | None]) -> str:
    """Replace the content of the blocks of a page.

    Args:
        page: its name, for errors.
        text: its content.
        blocks: Markdown by the name of the block; None keeps the old content.

    Raises:
        UserError: a block is unknown, or lacks its start or its end.
    """
    lines: list[str] = []
    block = None  # that is open
    for line in text.splitlines():
        start = _START.match(line)
        if start and block is not None:
            break
        if line == _END and block is None:
            raise UserError(f"{page}: {_END} without the start of a block")
        if start:
            block = start[1]
            if block not in blocks:
                raise UserError(f"{page}: unknown block {block!r}; known: {', '.join(blocks)}")
            content = (blocks[block] or "").strip()
            lines += [line, *(["", content, ""] if content else [])]
            continue
        if line == _END:
            block = None
        if block is None or blocks[block] is None:
            lines.append(line)
    if block is not None:
        raise UserError(f"{page}: block {block!r} has no {_END}")
    return "\n".join(lines) + "\n"


def describe_audit(audit: Mapping[str, Any]) -> str:
    """The content of metrics/audit.json in two sentences."""
    published = audit["published_protocol"]
    return (
        f"Of the {published['test_images']:,} test images of the published protocol, "
        f"{published['trained_on']:,} ({published['trained_on_share']:.1%}) are training images, "
        f"and of {published['copies_trained_on']:,} more "
        f"({published['copies_trained_on_share']:.1%}) a copy is. The audit of the {audit['runs']} "
        f"honest runs with {audit['test_images']:,} test images compared each test image with "
        f"each training and validation image of its run, {audit['pairs_checked']:,} pairs in all, "
        f"and found {audit['leaks']} leaks."
    )


def describe_split(link: str, sizes: Mapping[str, int]) -> str:
    """A sentence (Markdown) on a split file: its link and the number of images by split."""
    listed = ", ".join(f"{number:,} {split}" for split, number in sizes.items())
    return f"[{link}]({link}): the split of each of {sum(sizes.values()):,} images ({listed})."
