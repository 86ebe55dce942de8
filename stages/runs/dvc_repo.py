"""All that this project uses of DVC beyond its documented interfaces (dvc.api, command line).

- `Repo`: where the local cache lies; the queue's experiments; `status` and `commit` of stages that
  a cluster ran. DVC's commands say the same, but each starts a process of a second.
- The queue's entries, states and workers: `dvc queue` shows them as text and cannot tell whether a
  worker lives.
- `dict_sha256`: the names of the entries in the run cache.
"""

from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.repo import Repo
from dvc.repo.experiments.queue.remove import remove_tasks
from dvc.repo.experiments.utils import exp_refs_by_baseline
from dvc.utils import dict_sha256

__all__ = [
    "DvcException",
    "NotDvcRepoError",
    "Repo",
    "dict_sha256",
    "exp_refs_by_baseline",
    "remove_tasks",
]
