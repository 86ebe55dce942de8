"""Blocks of Markdown pages that `utkface-mtl publish` fills with figures.

A block is what stands between two comments, each on a line of its own:

    <!-- make publish: comparison -->
    <!-- end -->
"""

import re
from collections.abc import Mapping
from typing import Any

from stages.core.errors import UserError

_END = "<!-- end -->"
_START = re.compile(r"^(<!-- make publish: ([^\n]*) -->)$", re.MULTILINE)
_BLOCK = re.compile(rf"{_START.pattern}\n(.*?)^{_END}$", re.MULTILINE | re.DOTALL)


def fill_blocks(page: str, text: str, blocks: Mapping[str, str | None]) -> str:
    """Replace the content of a page's blocks by Markdown, by the block's name; None keeps the old.

    A `UserError` names the page and a block that is unknown, or lacks its start or its end.
    """

    def fill(match: re.Match[str]) -> str:
        start, name, old = match.groups()
        if _START.search(old):
            raise UserError(f"{page}: block {name!r} has no {_END}")
        if name not in blocks:
            raise UserError(f"{page}: unknown block {name!r}; known: {', '.join(blocks)}")
        if (content := blocks[name]) is None:
            return match[0]
        content = content.strip()
        return f"{start}\n" + (f"\n{content}\n\n" if content else "") + _END

    rest = _BLOCK.sub("", text)
    if start := _START.search(rest):
        raise UserError(f"{page}: block {start[2]!r} has no {_END}")
    if _END in rest.splitlines():
        raise UserError(f"{page}: {_END} without the start of a block")
    return _BLOCK.sub(fill, text)


def describe_audit(audit: Mapping[str, Any]) -> str:
    """The content of metrics/audit.json in two sentences, or three with embeddings."""
    published, second = audit["published_protocol"], ""
    if counts := audit.get("embeddings"):
        second = (
            f" A second opinion by face embeddings looked at the same pairs and found "
            f"{counts['likely_copies']} test images that are likely copies of a used image, and "
            f"{counts['similar']} that resemble one, most of them another photograph of the same "
            f"person."
        )
    return (
        f"Of the {published['test_images']:,} test images of the published protocol, "
        f"{published['trained_on']:,} ({published['trained_on_share']:.1%}) are training images, "
        f"and of {published['copies_trained_on']:,} more "
        f"({published['copies_trained_on_share']:.1%}) a copy is. The audit of the {audit['runs']} "
        f"honest runs with {audit['test_images']:,} test images compared each test image with "
        f"each training and validation image of its run, {audit['pairs_checked']:,} pairs in all, "
        f"and found {audit['leaks']} leaks.{second}"
    )


def describe_split(link: str, sizes: Mapping[str, int]) -> str:
    """A sentence (Markdown) on a split file: its link and the number of images by split."""
    listed = ", ".join(f"{number:,} {split}" for split, number in sizes.items())
    return f"[{link}]({link}): the split of each of {sum(sizes.values()):,} images ({listed})."
