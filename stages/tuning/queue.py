"""DVC's experiment queue, for searches and suites, which can be resumed after any stop.

If a worker of DVC is killed, DVC counts its experiment as running for ever: here it becomes a
failed one, which can be queued again. Whether a worker lives is read from its process: DVC asks it
for an answer within a second, which a busy machine may miss, and would start a second one.

Experiments belong to the commit that they were queued on. Only those of the present one count.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from stages.core.errors import UserError
from stages.runs import dvc_repo

FINISHED, RUNNING, QUEUED, FAILED = "finished", "running", "queued", "failed"
POLL_SECONDS = 2.0
START_SECONDS = 120.0  # for a worker to appear
STOP_SECONDS = 30.0  # for a worker to tidy up once its experiment is ended

Tell = Callable[[str], None]


class Queue:
    """The queue of one DVC repository; see `open_queue`."""

    def __init__(self, repo: Any) -> None:
        self._repo, self._tasks = repo, repo.experiments.celery_queue

    def states(self) -> dict[str, str]:
        """The state of each experiment of the present commit, by its name."""
        here = self._repo.scm.get_rev()
        failed = (result.entry for result in self._tasks.iter_failed())
        queued, active = self._tasks.iter_queued(), self._tasks.iter_active()
        found: dict[str, str] = {}
        for state, entries in ((FAILED, failed), (QUEUED, queued), (RUNNING, active)):
            found |= {entry.name: state for entry in entries if entry.baseline_rev == here}
        return found | dict.fromkeys(self.finished(), FINISHED)

    def finished(self) -> dict[str, str]:
        """The revisions of the finished experiments of the present commit, by name."""
        scm = self._repo.scm
        found = dvc_repo.exp_refs_by_baseline(scm, {scm.get_rev()})
        return {ref.name: scm.get_ref(str(ref)) for refs in found.values() for ref in refs}

    def uncommitted(self) -> bool:
        """Whether files that git tracks differ from the present commit."""
        return bool(self._repo.scm.is_dirty(untracked_files=False))

    def elsewhere(self, names: Iterable[str]) -> int:
        """How many experiments of these names are finished on other commits."""
        wanted, scm = set(names), self._repo.scm
        found = dvc_repo.exp_refs_by_baseline(scm)
        found.pop(scm.get_rev(), None)
        return sum(ref.name in wanted for refs in found.values() for ref in refs)

    def add(self, name: str, targets: list[str], changes: list[str]) -> None:
        """Queue an experiment on stages under a name that is free or that of a failed one.

        Changes of params are as `dvc exp run -S` takes them.
        """
        key = (name, self._repo.scm.get_rev())
        failed = [result.entry for result in self._tasks.iter_failed()]
        old = [entry for entry in failed if (entry.name, entry.baseline_rev) == key]
        # The first call may only drop what a worker that was killed early left in the stash.
        for _ in range(2):
            dvc_repo.remove_tasks(self._tasks, old)
        self._repo.experiments.run(targets=targets, params=changes, queue=True, name=name)

    def work_off(self, jobs: int, tell: Tell) -> None:
        """Run everything that is queued with `jobs` workers; report each line of progress.

        Raises UserError if no worker could be started; on KeyboardInterrupt, what runs is ended
        first and the rest stays queued.
        """
        progress = _Progress(self._tasks, tell)
        try:
            while progress.look():
                if not self._workers():
                    self.forget_dead()
                    self._start(jobs)
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            tell("stopping")
            self._stop()
            raise

    def forget_dead(self) -> None:
        """Mark experiments without a living worker as failed and remove their copies."""
        if self._workers():
            return
        for entry in list(self._tasks.iter_active()):
            folder = self._folder(entry)
            self._end(entry)
            self._tasks.kill([entry.stash_rev], force=True)  # there is nobody: marks it as failed
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def _start(self, jobs: int) -> None:
        # A worker starts `dvc` by its bare name, and stages start `python`.
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        if not any(self._tasks.iter_queued()):
            return
        self._tasks.start_workers(jobs)
        deadline = time.monotonic() + START_SECONDS
        while not self._workers():
            if time.monotonic() > deadline:
                log = Path(self._tasks.wdir) / "dvc-exp-worker-1.out"
                raise UserError(f"no worker of DVC's queue started; see {log}")
            time.sleep(POLL_SECONDS / 4)

    def _stop(self) -> None:
        workers = self._workers()
        self._tasks.shutdown()  # after the present experiment, which ends now
        for entry in list(self._tasks.iter_active()):
            self._end(entry)
        _, alive = psutil.wait_procs(workers, STOP_SECONDS)
        for worker in alive:
            worker.kill()
        psutil.wait_procs(alive)
        self.forget_dead()

    def _workers(self) -> list[psutil.Process]:
        files = Path(self._tasks.wdir).glob("dvc-exp-worker-*.pid")
        return [process for file in files for process in _alive(file.read_text(), "queue-worker")]

    def _end(self, entry: Any) -> None:
        """End an experiment's processes, also those whose parents are gone."""
        info, folder = self._tasks.proc.get(entry.stash_rev), self._folder(entry)
        running = _alive(info.pid, "exec-run") if info else []
        if folder is not None:
            everyone = psutil.process_iter(["cwd"])  # None where it cannot be asked
            running += [p for p in everyone if Path(p.info["cwd"] or "/").is_relative_to(folder)]
        for process in running:
            with suppress(psutil.NoSuchProcess):
                for each in [*process.children(recursive=True), process]:
                    each.kill()
        psutil.wait_procs(running, STOP_SECONDS)

    def _folder(self, entry: Any) -> Path | None:
        """The temporary copy in which an experiment runs."""
        with suppress(FileNotFoundError, json.JSONDecodeError):
            info = json.loads(Path(self._tasks.get_infofile_path(entry.stash_rev)).read_text())
            folder = Path(info["root_dir"])
            return folder if folder.parent == Path(self._repo.tmp_dir) / "exps" else None
        return None


class _Progress:
    """Reports the changes of state in the queue and the lines that trainings print."""

    def __init__(self, tasks: Any, tell: Tell) -> None:
        self._tasks, self._tell = tasks, tell
        self._known: dict[str, str] = {}
        self._read: dict[str, int] = {}

    def look(self) -> bool:
        """Report what is new; returns whether anything is still to be done."""
        queued, active = list(self._tasks.iter_queued()), list(self._tasks.iter_active())
        for entry, result in self._tasks.iter_done():
            if self._known.get(entry.stash_rev) == RUNNING:
                self._follow(entry)
                log = f", see `dvc queue logs {entry.name}`" if result is None else ""
                state = FAILED if result is None else FINISHED
                self._change(entry, state, f"{log}; {len(queued)} queued")
        for entry in active:
            self._change(entry, RUNNING)
            self._follow(entry)
        return bool(queued or active)

    def _change(self, entry: Any, state: str, more: str = "") -> None:
        if self._known.get(entry.stash_rev) != state:
            self._known[entry.stash_rev] = state
            self._tell(f"{entry.name}: {state}{more}")

    def _follow(self, entry: Any) -> None:
        info = self._tasks.proc.get(entry.stash_rev)
        if info is None or not Path(info.stdout).is_file():
            return
        begin = self._read.get(entry.stash_rev, 0)
        with Path(info.stdout).open("rb") as log:
            log.seek(begin)
            lines = [line for line in log if line.endswith(b"\n")]
        self._read[entry.stash_rev] = begin + sum(map(len, lines))
        for line in lines:
            if line.startswith(b"train: "):
                self._tell(f"{entry.name}: {line.decode(errors='replace').strip()}")


@contextmanager
def open_queue() -> Iterator[Queue]:
    """The queue of the DVC repository around the working folder; DVC's errors are UserErrors."""
    try:
        with dvc_repo.Repo() as repo:
            yield Queue(repo)
    except dvc_repo.NotDvcRepoError:
        raise UserError("no DVC repository here; run from the project's top folder") from None
    except dvc_repo.DvcException as error:
        raise UserError(f"DVC: {error}") from error


def _alive(pid: int | str, word: str) -> list[psutil.Process]:
    """The process of that number, if it lives and has the word in its command line."""
    with suppress(psutil.NoSuchProcess, ValueError):
        process = psutil.Process(int(pid))
        return [process] if word in process.cmdline() else []
    return []
