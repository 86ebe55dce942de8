"""What a command says when it cannot go on, and how it ends."""

import errno
import os
import subprocess
import sys
import time

import pytest

from stages.core.errors import UserError
from stages.core.stage import INTERRUPTED, UNREAD, run_stage


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # which `run_stage` changes


def raising(error: BaseException):
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("params.yaml: seed"), "error: params.yaml: seed"),
        (UserError("a\x1b]0;x\x07\x9b\u202eé.onnx"), r"error: a\x1b]0;x\x07\x9b\u202eé.onnx"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.csv"), "error: a.csv: No space left"),
        (PermissionError(errno.EACCES, "x", "a.csv"), "error: a.csv: Permission denied"),
        (PermissionError(errno.EACCES, "x", "\x1b.csv"), r"error: \x1b.csv: Permission denied"),
        (OSError(errno.EROFS, "x"), "error: writing: Read-only file system"),
        (OSError(errno.ENAMETOOLONG, "x", "kkk"), "error: kkk: File name too long"),
        (
            OSError("Can't write (errno = 28, error message = 'No space left on device')"),
            "No space",
        ),
        (MemoryError(), "error: not enough memory"),
    ],
)
def test_what_the_machine_refuses_is_one_line(error: Exception, said: str):
    with pytest.raises(SystemExit) as ended:
        run_stage(raising(error))
    assert said in str(ended.value.code)
    assert "\n" not in str(ended.value.code)


def test_an_interrupted_command_says_so(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        run_stage(raising(KeyboardInterrupt()))
    assert ended.value.code == INTERRUPTED
    assert capsys.readouterr().err == "error: interrupted; what was there before stays\n"


def test_what_was_cut_off_in_its_making_does_not_complain():
    code = """
from stages.core.stage import run_stage
class Bar:
    def __init__(self):
        raise KeyboardInterrupt
    def __del__(self):
        self.close()
run_stage(Bar)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == INTERRUPTED
    assert done.stderr == "error: interrupted; what was there before stays\n"


@pytest.mark.parametrize(
    "deaf",
    [
        "os.register_at_fork(after_in_parent=interrupt); os.fork() or os._exit(0)",
        "deaf = Deaf(); del deaf",
    ],
)
def test_an_interrupt_is_heard_also_where_python_drops_it(deaf: str):
    code = f"""
import os, signal, time
from stages.core.stage import run_stage
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
interrupt = lambda *_: signal.raise_signal(signal.SIGINT)
class Deaf:
    __del__ = interrupt
def main():
    {deaf}
    time.sleep(30)
run_stage(main)
"""
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == INTERRUPTED
    assert done.stderr == "error: interrupted; what was there before stays\n"
    assert time.monotonic() - begin < 20


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_command_whose_reader_has_left_ends_without_a_word(lines: int):
    main = f"lambda: [print('a line') for _ in range({lines})]"
    code = f"from stages.core.stage import run_stage; run_stage({main})"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (UNREAD, "")


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), FileNotFoundError(errno.ENOENT, "x"), OSError(), BrokenPipeError("worker")],
)
def test_a_defect_keeps_its_traceback(error: Exception):
    with pytest.raises(type(error)):
        run_stage(raising(error))
