"""The one kind of error that a user is meant to read.

Everything that a user can mend (a param, a file, an address) is raised as `UserError`
with a text that names the file, the field and what to do. A node prints it without a
traceback and exits with status 1. So it does with what the machine refuses (a full disk, a
folder that may not be written, no memory), and after Ctrl-C with status 130; where nobody reads
on (`| head`), it ends without a word. Any other exception is a defect and keeps its traceback.
"""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from stages.core import snapshot as workflow

INTERRUPTED = 130  # the exit status, as of any program that Ctrl-C ends
UNREAD = 141  # as of one whose reader has left
REFUSALS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EEXIST),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EMFILE),
)


class UserError(Exception):
    """Bad input or environment. The text names the file, the field and what to do."""


def refuse_changes(since: workflow.Basis | None = None) -> None:
    """What DVC records of a node when it ends is to be what the node's outputs were made with.

    Args:
        since: `workflow.basis` of the node's command before this one; this one's start by default.

    Raises:
        UserError: the node's params or code were changed while it ran.
    """
    if changes := workflow.changes(since):
        raise UserError(
            f"changed while this ran: {', '.join(changes)}. DVC would record the outputs as made "
            "with what is there now: run it again. A training goes on from its last checkpoint "
            "where the change is undone. For experiments at once: `dvc exp run --temp`, `--queue`"
        )


def run_stage(main: Callable[[], None]) -> None:
    """Run a node's `main`; turn what is no defect into one line on stderr and an exit status."""
    sys.unraisablehook = partial(_unraisable, sys.unraisablehook)
    try:
        workflow.snapshot_at_start()
        main()
        refuse_changes()
        sys.stdout.flush()  # here, not at the exit, where an error has no status
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        # What was cut off in its making, as a progress bar, may not know how to be deleted.
        sys.unraisablehook = lambda _: None
        print("error: interrupted; what was there before stays", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except MemoryError:
        sys.exit("error: not enough memory")
    except BrokenPipeError:
        if _is_read():
            raise  # by another pipe than the output
        sys.exit(UNREAD)
    except OSError as error:
        if (reason := _refusal(error)) is None:
            raise
        sys.exit(f"error: {error.filename or 'writing'}: {reason}")


def _unraisable(otherwise: Callable[[Any], object], found: Any) -> None:
    """Let Ctrl-C come again where Python drops it, in what is called at a fork or a deletion."""
    if found.exc_type is not KeyboardInterrupt:
        otherwise(found)
        return
    # Not at once: it would be dropped in here. The process is asked, since a signal to this
    # thread alone would not wake the main one.
    threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()


def _is_read() -> bool:
    """Whether somebody still takes the output; if nobody does, the rest of it goes nowhere."""
    try:
        print(flush=True)  # an empty line before a traceback does no harm
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _refusal(error: OSError) -> str | None:
    """What the machine says; None where a library found something else wrong with a file."""
    # h5py and others raise errors without a number for what the disk refused them.
    said = [error.errno] if error.errno else [n for n in REFUSALS if os.strerror(n) in str(error)]
    return os.strerror(said[0]) if said and said[0] in REFUSALS else None
