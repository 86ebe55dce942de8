"""The one kind of error that a user is meant to read, and lack of memory in any library's words."""

import errno
import os
import sys
from typing import NoReturn

# As OpenCV, onnxruntime, C++, TensorFlow, Python's threads, protobuf, Linux and Pillow say it.
_SHORT_OF_MEMORY = (
    *("Insufficient memory", "Failed to allocate memory", "bad_alloc", "OOM when allocating"),
    *("can't start new thread", "Failed to serialize proto", "Cannot allocate memory"),
    *("failed to map segment", "out of memory"),
)
NOT_ENOUGH_MEMORY = "error: not enough memory"


class UserError(Exception):
    """Bad input or environment. The text names the file, the field and what to do."""


def printable(text: object) -> str:
    """A text for a terminal, which names of files and what stands in them must not control."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1]
        for letter in str(text)
    )


def lacks_memory(error: BaseException) -> bool:
    """Whether an exception means that memory is short, and nothing about what was read."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return any(words in str(error) for words in _SHORT_OF_MEMORY)


def end_without_memory() -> NoReturn:
    """End the process at once, from any thread, where nobody would hear an exception."""
    print(NOT_ENOUGH_MEMORY, file=sys.stderr, flush=True)
    os._exit(1)
