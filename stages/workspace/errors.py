"""The one kind of error that a user is meant to read.

Everything that a user can mend (a param, a file, an address) is raised as `UserError`
with a text that names the file, the field and what to do. A node prints it without a
traceback and exits with status 1; any other exception is a defect and keeps its traceback.
"""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input or surroundings. The text names the file, the field and what to do."""


def run_node(main: Callable[[], None]) -> None:
    """Run a node's `main`; turn a `UserError` into one line on stderr and exit status 1."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
