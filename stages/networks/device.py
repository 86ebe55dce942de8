"""The process's TensorFlow: which device, what precision, how reproducible.

Call `prepare` before anything imports TensorFlow: some of its switches are environment
variables that are read once, on import.
"""

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stages.core.errors import UserError

TENSOR_CORES = (7, 0)  # the compute capability from which a GPU multiplies float16 fast
# The flags of Linux for a CPU that multiplies bfloat16; others emulate it, and are slower for it.
CPU_BFLOAT16 = {"avx512_bf16", "amx_bf16"}
CPU_FLAGS = Path("/proc/cpuinfo")


def prepare(
    device: str = "auto",
    memory_growth: bool = True,
    precision: str = "float32",
    deterministic: bool = True,
    seed: int = 0,
    xla: bool = False,
    threads: int = 0,
) -> tuple[str, bool]:
    """Set up TensorFlow and Keras for this process.

    Args:
        device: `auto` (a GPU if TensorFlow sees one), `cpu` or `gpu`.
        memory_growth: take GPU memory as needed instead of all at once.
        precision: `auto` or a Keras dtype policy; `auto` is mixed_float16 on a GPU with tensor
            cores, mixed_bfloat16 on a CPU that multiplies it, and float32 elsewhere.
        deterministic: the same bytes at each run on one machine.
        seed: of Python, NumPy and TensorFlow.
        xla: XLA is wanted. On a GPU it does not go with `deterministic` (XLA has no
            deterministic gradient of max pooling there), on a CPU with float32 only, which its
            steps are made for, and not with AVX-512, where TensorFlow's own are faster.
        threads: that share one operation; each number sums in another order, so that the last
            bits differ; 0: one per core that this process may use.

    Returns:
        The dtype policy that is set, and whether XLA can be used.

    Raises:
        UserError: `gpu` is asked for and TensorFlow sees none.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # oneDNN is TensorFlow's own choice only on some CPUs; it is no slower on the others.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with silenced_stderr():
        import keras
        import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise UserError("machine.device is gpu, but TensorFlow sees no GPU; use auto or cpu")
    if device == "cpu":
        tf.config.set_visible_devices([], "GPU")
        gpus = []
    if memory_growth:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    if threads:  # it cannot be changed later, not even to what it is
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    if precision == "auto":
        precision = _automatic_precision(gpus)
    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(seed)
    if gpus:
        xla = xla and not deterministic
    else:
        xla = xla and precision == "float32" and "avx512f" not in _cpu_flags()
    # On a CPU what XLA compiles is deterministic by itself, and this switch would forbid it.
    if deterministic and not xla:
        tf.config.experimental.enable_op_determinism()
    return precision, xla


def _automatic_precision(gpus: Sequence[object]) -> str:
    if gpus:
        return "mixed_float16" if all(map(_has_tensor_cores, gpus)) else "float32"
    return "mixed_bfloat16" if multiplies_bfloat16() else "float32"


def usable_cores() -> int:
    """How many cores this process may use, which is how many threads TensorFlow takes."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_gpu() -> bool:
    """Whether TensorFlow uses a GPU, after `prepare`."""
    import tensorflow as tf

    return bool(tf.config.get_visible_devices("GPU"))


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16, as far as Linux tells."""
    return not CPU_BFLOAT16.isdisjoint(_cpu_flags())


def _cpu_flags() -> list[str]:
    """The CPU's extensions as Linux calls them; none on other systems."""
    if not CPU_FLAGS.is_file():
        return []
    lines = CPU_FLAGS.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in lines if line.startswith("flags")), "").split()


class _Silence:
    """Stderr as it was before the first of several threads silenced it."""

    lock = threading.Lock()
    depth = 0
    kept = -1


@contextmanager
def silenced_stderr() -> Iterator[None]:
    """Drop what TensorFlow's C++ part logs while it is imported, before its log level counts.

    Threads may do so at the same time: stderr is back when the last of them is done. A failing
    import still raises, and is shown afterwards.
    """
    with _Silence.lock:
        if _Silence.depth == 0:
            sys.stderr.flush()
            _Silence.kept = os.dup(2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
        _Silence.depth += 1
    try:
        yield
    finally:
        with _Silence.lock:
            _Silence.depth -= 1
            if _Silence.depth == 0:
                os.dup2(_Silence.kept, 2)
                os.close(_Silence.kept)


def _has_tensor_cores(gpu: object) -> bool:
    import tensorflow as tf

    details = tf.config.experimental.get_device_details(gpu)
    return details.get("compute_capability", (0, 0)) >= TENSOR_CORES
