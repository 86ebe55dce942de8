"""Pages whose figures are filled in by a command and never by hand.

A block stands between two comments, each on a line of its own:

    <!-- make publish: comparison -->
    <!-- end -->

What is between them is replaced as a whole; the rest of the page stays as it is.
"""

import re
from collections.abc import Mapping

from stages.core.errors import UserError

_START = re.compile(r"^<!-- make publish: (.*) -->$")
_END = "<!-- end -->"


def fill_blocks(page: str, text: str, blocks: Mapping[str, str | None]) -> str:
    """Put the content of each block where the page has its marks; empty content leaves none.

    Args:
        page: its name, for errors.
        text: the page.
        blocks: Markdown by the name of the block; None: what stands there stays.

    Raises:
        UserError: an unknown block, or a mark without its other one.
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
    """What the audit found, in two sentences (Markdown).

    Args:
        audit: the content of metrics/audit.json.
        published: its `published_protocol`.
    """
    return (
        f"Of the {published['test_images']:,} test images of the published protocol, "
        f"{published['trained_on']:,} ({published['trained_on_share']:.1%}) are training images, "
        f"and of {published['copies_trained_on']:,} more "
        f"({published['copies_trained_on_share']:.1%}) a copy is. The audit of the honest runs "
        f"({audit['runs']}, which test {audit['test_images']:,} images) compared each test image "
        f"with each image that the run trained on or validated with, {audit['pairs_checked']:,} "
        f"pairs over all runs, and found {audit['leaks']} leaks."
    )


def describe_search(table: str, picture: str) -> str:
    """What a search found (Markdown).

    Args:
        table: what `tune` wrote; its title is left to the page.
        picture: of the outcome.
    """
    return f"{table.split(chr(10), 1)[1].strip()}\n\n{picture}"


def describe_split(link: str, sizes: Mapping[str, int]) -> str:
    """What a published split file holds, in a sentence (Markdown).

    Args:
        link: to the file, from the page.
        sizes: images by split.
    """
    listed = ", ".join(f"{number:,} {split}" for split, number in sizes.items())
    return f"[{link}]({link}): the split of each of {sum(sizes.values()):,} images ({listed})."
