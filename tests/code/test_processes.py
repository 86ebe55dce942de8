"""Work by processes side by side: order, errors, and what is left when one is killed."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import count, islice
from pathlib import Path

import psutil
import pytest

from stages.core.errors import UserError
from stages.parallel import processes, threads
from stages.parallel.processes import side_by_side

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr(processes, "BATCH", 2)


@pytest.fixture
def children():
    """Return how many child processes there are more than at the beginning."""
    before = set(psutil.Process().children())
    return lambda: len(set(psutil.Process().children()) - before)


def doubling(delays=None):
    def work(item):
        time.sleep((delays or {}).get(item, 0))
        return item * 2, os.getpid()

    return work


def failing():
    raise UserError("weights.onnx: damaged")


def breaking():
    def work(item):
        if item == 5:
            raise ValueError("item 5")
        return item

    return work


def dying():
    def work(item):
        if item == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    return work


def no_weight(_):
    return 0


@pytest.mark.parametrize("number", [1, 2, 4])
def test_results_come_in_the_order_of_the_items(number):
    found = list(side_by_side(partial(doubling, {0: 0.3, 3: 0.1}), range(11), number, no_weight))
    assert [(item, result) for item, (result, _) in found] == [(i, 2 * i) for i in range(11)]
    assert os.getpid() not in {process for _, (_, process) in found}


def test_nothing_gives_nothing():
    assert list(side_by_side(doubling, [], 2, no_weight)) == []


def test_an_error_in_the_making_of_the_work_is_raised():
    with pytest.raises(UserError, match=r"weights\.onnx: damaged"):
        list(side_by_side(failing, range(9), 2, no_weight))


def test_an_error_of_the_work_is_raised():
    with pytest.raises(ValueError, match="item 5"):
        list(side_by_side(breaking, range(9), 2, no_weight))


def test_an_error_of_the_items_is_raised_and_no_process_stays(children):
    def items():
        yield from range(9)
        raise UserError("a.tar: damaged")

    with pytest.raises(UserError, match=r"a\.tar"):
        list(side_by_side(doubling, items(), 2, no_weight))
    assert children() == 0


def test_a_killed_worker_ends_the_run_with_one_error(children):
    with pytest.raises(UserError, match=r"killed.*machine\.threads"):
        list(side_by_side(dying, range(50), 2, no_weight))
    assert children() == 0


def test_an_abandoned_run_leaves_no_process(children):
    found = side_by_side(doubling, count(), 2, no_weight)
    assert next(found)[0] == 0
    assert children() == 2
    found.close()
    assert children() == 0


def test_few_items_are_under_way():
    drawn = []
    found = side_by_side(doubling, (drawn.append(i) or i for i in count()), 2, no_weight)
    list(islice(found, 50))
    found.close()
    assert len(drawn) <= 50 + 2 * 2 * processes.AHEAD + 2


def test_heavy_items_travel_alone_and_few(monkeypatch):
    monkeypatch.setattr(threads, "HEAVIEST", 3 * (processes.HEAVY + 1))
    drawn = []
    items = (drawn.append(i) or i for i in count())
    found = side_by_side(doubling, items, 4, lambda _: processes.HEAVY + 1)
    list(islice(found, 10))
    found.close()
    assert len(drawn) <= 10 + 4


ENDLESS = """
import signal
from itertools import count
from tests.code.test_processes import doubling, no_weight
from stages.parallel.processes import side_by_side

if __name__ == "__main__":
    # A shell starts background processes with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for _ in side_by_side(doubling, count(), 2, no_weight):
        print("", flush=True)
"""


@pytest.fixture
def endless():
    """Return a process of two workers that never ends by itself, and those workers."""
    command = [sys.executable, "-c", ENDLESS]
    caller = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert caller.stdout is not None
        caller.stdout.readline()
        workers = psutil.Process(caller.pid).children()
        assert len(workers) == 2
        yield caller, workers
    finally:
        caller.kill()
        caller.communicate()
        for worker in psutil.wait_procs(workers, 0)[1]:
            worker.kill()


def test_workers_end_with_a_caller_that_is_killed(endless):
    caller, workers = endless
    caller.kill()
    assert psutil.wait_procs(workers, 20)[1] == []


def test_ctrl_c_in_a_terminal_is_the_callers_alone(endless):
    caller, workers = endless
    for process in (*workers, caller):  # a terminal sends it to all
        process.send_signal(signal.SIGINT)
    _, message = caller.communicate(timeout=20)
    assert message.count("Traceback") == 1
    assert message.strip().endswith("KeyboardInterrupt")
    assert psutil.wait_procs(workers, 20)[1] == []


AT_ONCE = """
import os, signal
from itertools import count
from tests.code.test_processes import doubling, no_weight
from stages.parallel.processes import side_by_side

signal.signal(signal.SIGINT, signal.default_int_handler)
os.register_at_fork({when}=lambda: os.kill(os.getpid(), signal.SIGINT))
for found in side_by_side(doubling, range(9), 2, no_weight):
    print(found[0], flush=True)
"""


def test_ctrl_c_at_a_workers_birth_is_not_its_own_either():
    command = [sys.executable, "-c", AT_ONCE.format(when="after_in_child")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(i) for i in range(9)]
    assert done.stderr == ""


def test_ctrl_c_while_workers_are_born_is_heard_when_they_are_there():
    command = [sys.executable, "-c", AT_ONCE.format(when="after_in_parent")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.strip().endswith("KeyboardInterrupt")
    assert "Exception ignored" not in done.stderr


HOLDING_A_LOCK = """
import os, signal, threading
from itertools import count
from tests.code.test_processes import doubling, no_weight
from stages.parallel.{module} import side_by_side

signal.signal(signal.SIGINT, signal.default_int_handler)
enter, entered = threading.Condition.__enter__, count(1)

def interrupted(condition):
    value = enter(condition)
    if threading.current_thread() is threading.main_thread() and next(entered) == {number}:
        os.kill(os.getpid(), signal.SIGINT)
    return value

for item, _ in side_by_side(doubling if {processes} else doubling(), count(), 2, no_weight):
    threading.Condition.__enter__ = interrupted
"""


@pytest.mark.parametrize("module", ["processes", "threads"])
@pytest.mark.parametrize("number", range(1, 6))
def test_ctrl_c_while_a_lock_is_taken_does_not_leave_it_locked(module, number):
    code = HOLDING_A_LOCK.format(module=module, number=number, processes=module == "processes")
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr.strip().endswith("KeyboardInterrupt")
    assert done.stderr.count("Traceback") == 1
