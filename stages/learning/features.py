"""Features: the output of a frozen part, computed once per image and shared by all trainings.

There is one .npy file per frozen part and set of images, named by the digests of both. Features
of a deeper layer are computed from stored ones: of a frozen VGG16 from those of its block 4.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import ml_dtypes  # noqa: F401 - makes bfloat16 a dtype of NumPy
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from stages.core.files import commit, partial_path
from stages.core.sections import Cluster
from stages.networks import device
from stages.networks.network import separates
from stages.parallel.cluster import spread

BATCH = 64  # images a step; without influence on the features beyond the last float bit

Array = npt.NDArray[Any]
Compute = Callable[[keras.Model, Iterable[Array]], Iterable[Array]]


def one_after_the_other(frozen: keras.Model, batches: Iterable[Array]) -> Iterator[Array]:
    """The output for each batch, computed by this process."""
    return (frozen.predict_on_batch(batch) for batch in batches)


def features_on(
    cluster: Cluster, setup: Sequence[Any], frozen: keras.Model, batches: Iterable[Array]
) -> Iterator[Array]:
    """Yield a frozen part's output for each batch of images or features, in their order.

    `setup` are the arguments of `device.prepare`, which each worker calls.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frozen.keras"
        frozen.save(path)
        network = path.read_bytes()

    def make() -> Callable[[Array], Array]:
        device.prepare(*setup)
        import keras as loader

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "frozen.keras"
            path.write_bytes(network)
            model = loader.saving.load_model(path, compile=False, safe_mode=True)
        return lambda batch: np.asarray(model.predict_on_batch(batch))

    return (features for _, features in spread(cluster, make, batches, size=1))


def frozen_features(
    frozen: keras.Model,
    images: npt.NDArray[np.uint8],
    digest: str,
    folder: Path,
    limit: float,
    compute: Compute = one_after_the_other,
) -> Array:
    """The output of a frozen part for all images, from the cache or computed into it.

    `images` are uint8 (N, height, width, 3), `digest` is that of their bytes. Above `limit` bytes,
    what was not used for the longest time leaves the folder. `compute` gives the output for each
    batch. Returns (N, ...), mapped; float32 or the network's lower precision.
    """
    names = _identities(frozen, digest)
    path = folder / f"{names[-1]}.npy"
    place, features = _nearest(frozen, names, folder) or (None, images)
    if place != len(names) - 1:
        rest = frozen if place is None else keras.Model(frozen.layers[place].output, frozen.output)
        features = _compute(rest, features, path, compute)
    with suppress(FileNotFoundError):  # what is mapped stays readable
        os.utime(path)  # used now
    _make_room(folder, path, limit)
    return features


def _mapped(path: Path, output: keras.KerasTensor) -> Array:
    # The format has no word for bfloat16: its values come back as bytes without a meaning.
    return np.load(path, mmap_mode="r", allow_pickle=False).view(np.dtype(output.dtype))


def _identities(frozen: keras.Model, images_digest: str) -> list[str]:
    """For each layer a digest of everything that features taken after it follow from."""
    hasher, names = hashlib.sha256(images_digest.encode()), []
    for layer in frozen.layers:
        config = {key: value for key, value in layer.get_config().items() if key != "trainable"}
        hasher.update(json.dumps(config, sort_keys=True, default=str).encode())
        for weight in layer.get_weights():
            hasher.update(np.ascontiguousarray(weight).tobytes())
        names.append(hasher.hexdigest()[:32])
    return names


def _nearest(frozen: keras.Model, names: Sequence[str], folder: Path) -> tuple[int, Array] | None:
    """The last layer after which features are stored from which the rest follows, and they."""
    for place in reversed(range(len(names))):
        if separates(frozen.layers, place):
            with suppress(FileNotFoundError):  # also where another training just removed them
                return place, _mapped(folder / f"{names[place]}.npy", frozen.layers[place].output)
    return None


def _compute(frozen: keras.Model, inputs: Array, path: Path, compute: Compute) -> Array:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process's number keeps two trainings that start together apart; the last one wins.
    partial = partial_path(path.with_name(f"{os.getpid()}-{path.name}"))
    shape = (len(inputs), *frozen.output.shape[1:])
    try:
        features = np.lib.format.open_memmap(partial, "w+", frozen.output.dtype, shape)
        starts = range(0, len(inputs), BATCH)
        batches = (np.ascontiguousarray(inputs[start : start + BATCH]) for start in starts)
        found = zip(starts, compute(frozen, batches), strict=True)
        for start, some in tqdm(found, "features", len(starts), unit="batch", disable=None):
            features[start : start + BATCH] = some
        features.flush()
        whole = _mapped(partial, frozen.output)  # another training may make room at once
        commit(partial, path)
        return whole
    finally:
        partial.unlink(missing_ok=True)


def _make_room(folder: Path, keep: Path, limit: float) -> None:
    files = []
    for path in folder.glob("*.npy"):
        with suppress(FileNotFoundError):  # another training makes room too
            state = path.stat()
            files.append((state.st_mtime, path, state.st_size))
    total = sum(size for _, _, size in files)
    for _, path, size in sorted(files):
        if total > limit and path != keep:
            total -= size
            path.unlink(missing_ok=True)
