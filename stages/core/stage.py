"""How a stage or a command is run: errors, signals, edits meanwhile.

Everything that a user can mend (a param, a file, an address) is raised as `UserError`. It is
printed in one line without a traceback, and the exit status is 1. OS errors (a full disk, a
read-only folder) and lack of memory are reported in the same way. After Ctrl-C the status is 130;
where nobody reads the output any more (`| head`), the command ends without a word. Any other
exception is a defect and keeps its traceback.
"""

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from stages.core.errors import (
    NOT_ENOUGH_MEMORY,
    UserError,
    end_without_memory,
    lacks_memory,
    printable,
)
from stages.core.snapshot import changes, snapshot_at_start

INTERRUPTED = 130  # the exit status, as of any program that Ctrl-C ends
UNREAD = 141  # as of one whose reader has left
REFUSALS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EEXIST),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EMFILE),
    *(errno.ENAMETOOLONG, errno.ELOOP),
)


def refuse_changes() -> None:
    """DVC records params and code of a stage at its end: they must be those it ran with.

    Raises:
        UserError: the stage's params or code were changed while it ran.
    """
    if changed := changes():
        raise UserError(
            f"changed while this ran: {', '.join(changed)}. DVC would record the outputs as made "
            "with what is there now: run it again. A training goes on from its last checkpoint "
            "where the change is undone. For experiments at once: `dvc exp run --temp`, `--queue`"
        )


def run_stage(main: Callable[[], None]) -> None:
    """Run a `main`; report all but defects in one line on stderr and an exit status."""
    sys.unraisablehook = partial(_unraisable, sys.unraisablehook)
    threading.excepthook = partial(_thread_ended, threading.excepthook)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a locale may lack letters of names
            stream.reconfigure(errors="backslashreplace")
    try:
        snapshot_at_start()
        main()
        refuse_changes()
        sys.stdout.flush()  # here, not at the exit, where an error has no status
    except UserError as error:
        sys.exit(f"error: {printable(error)}")
    except KeyboardInterrupt:
        # What was cut off in its making, as a progress bar, may not know how to be deleted.
        sys.unraisablehook = lambda _: None
        print("error: interrupted; what was there before stays", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        if _is_read():
            raise  # by another pipe than the output
        sys.exit(UNREAD)
    except Exception as error:
        if lacks_memory(error):
            sys.exit(NOT_ENOUGH_MEMORY)
        if not isinstance(error, OSError) or (reason := _refusal(error)) is None:
            raise
        sys.exit(f"error: {printable(error.filename or 'writing')}: {reason}")


def _unraisable(otherwise: Callable[[Any], object], found: Any) -> None:
    """Let Ctrl-C come again where Python drops it, in what is called at a fork or a deletion."""
    if found.exc_type is not KeyboardInterrupt:
        otherwise(found)
        return
    # Not at once: it would be dropped in here. The process is asked, since a signal to this
    # thread alone would not wake the main one.
    threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()


def _thread_ended(otherwise: Callable[[Any], object], found: Any) -> None:
    """End the process where a thread lacked memory: whoever waits for it would wait forever."""
    if lacks_memory(found.exc_value or found.exc_type()):
        end_without_memory()
    otherwise(found)


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
