"""Batches for the network: slices of crops.npy against the published tf.data chain.

The chain lists JPEG files, reads, decodes, converts to float32 and batches, in parallel and with
prefetching; ours are the `Batches` that every training reads, as uint8 (the network converts
them). Both deliver the same pixels, ours from a newly mapped file at each pass. The third figure
is ours as Keras hands them to a training step, as tensors.

    python -m benchmarks.batches --archive UTKFace.tar.gz
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.faces import Faces, add_archive, cut_faces
from benchmarks.machine import memory_mib, peak_memory
from benchmarks.side_by_side import (
    add_number,
    compare,
    make_parser,
    print_report,
    prove,
    rates,
    take_turns,
)
from stages.core.params import load_params
from stages.core.stage import run_stage
from stages.faces.index import read_crops
from stages.networks import device

QUALITY = 95  # of the chain's JPEGs
PASSES = 5  # over which memory is to stay
LEAST = 200_000.0  # images/s that no GPU outruns
Batch = tuple[np.ndarray, dict[str, np.ndarray]]


def main() -> None:
    """Prove, time, print."""
    parser = make_parser(__doc__)
    add_archive(parser, 4000)
    add_number(parser, "--batch-size", 64, "images")
    arguments = parser.parse_args()
    device.prepare("cpu", deterministic=False)
    faces = cut_faces(arguments.archive, arguments.images, load_params())
    with tempfile.TemporaryDirectory() as folder:
        sides = Sides(faces, Path(folder), arguments.batch_size)
        proven = sides.prove()
        sides.seed = 1  # as in a training
        seconds = take_turns(
            {
                "ours": lambda: sides.deliver(sides.ours),
                "chain": lambda: sides.deliver(sides.chain),
                "keras": lambda: sides.deliver(sides.keras),
            },
            arguments.rounds,
        )
        memory = {name: _memory(sides, name) for name in ("ours", "chain")}
    speed = {name: rates(each, len(faces.names)) for name, each in seconds.items()}
    least = [LEAST] * arguments.rounds
    lines = [
        compare("Batches / tf.data chain", speed["ours"], speed["chain"], "images/s", 30.0),
        compare("Batches through Keras / chain", speed["keras"], speed["chain"], "images/s"),
        compare("Batches / 200,000 images/s", speed["ours"], least, "images/s", 1.0),
    ]
    print_report(arguments, proven, lines, memory_mib=memory)


class Sides:
    """Both ways to the same pixels.

    Args:
        faces: what is delivered.
        folder: for the files of both.
        batch_size: images.
    """

    def __init__(self, faces: Faces, folder: Path, batch_size: int) -> None:
        self.batch_size, self.folder = batch_size, folder / "jpegs"
        self.seed: int | None = None  # of ours; without, all deliver in the same order
        self.array, self.labels = folder / "crops.npy", faces.labels
        self.folder.mkdir()
        crops = np.lib.format.open_memmap(self.array, "w+", np.uint8, faces.crops.shape)
        for place, crop in enumerate(faces.crops):
            codes = "_".join(str(values[place]) for values in faces.labels.values())
            file = self.folder / f"{place:06}_{codes}.jpg"
            Image.fromarray(crop).save(file, quality=QUALITY)
            crops[place] = self._decoded(file)
        crops.flush()

    @staticmethod
    def _decoded(file: Path) -> np.ndarray:
        import tensorflow as tf

        return np.asarray(tf.io.decode_jpeg(file.read_bytes(), channels=3))

    def ours(self) -> Iterator[Batch]:
        """Slices of the mapped array."""
        batches = self._batches()
        for index in range(len(batches)):
            yield batches[index]

    def keras(self) -> Iterator[Batch]:
        """The same through Keras, as it feeds a compiled step."""
        from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

        yield from PyDatasetAdapter(self._batches()).get_tf_dataset()

    def _batches(self):  # type: ignore[no-untyped-def]  # Keras is not to be imported before
        from stages.learning.batches import Batches

        crops = read_crops(self.array)
        rows = np.arange(len(crops))
        return Batches(crops, rows, self.labels, self.batch_size, self.seed)

    def chain(self) -> Iterator[Batch]:
        """The published chain: list_files, read, decode, convert, batch."""
        import tensorflow as tf

        def load(path):  # type: ignore[no-untyped-def]
            codes = tf.strings.split(tf.strings.split(path, "/")[-1], ".")[0]
            numbers = tf.strings.to_number(tf.strings.split(codes, "_")[1:], tf.int64)
            image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
            labels = {task: numbers[place] for place, task in enumerate(self.labels)}
            return tf.image.convert_image_dtype(image, tf.float32), labels

        files = tf.data.Dataset.list_files(f"{self.folder}/*.jpg", shuffle=False)
        loaded = files.map(load, num_parallel_calls=tf.data.AUTOTUNE)
        yield from loaded.batch(self.batch_size).prefetch(tf.data.AUTOTUNE)

    @staticmethod
    def deliver(side: Callable[[], Iterator[Batch]]) -> int:
        """One pass; returns the number of images."""
        return sum(len(images) for images, _ in side())

    def prove(self) -> list[str]:
        """That both deliver the same images and labels."""
        number = 0
        for ours, chain, keras in zip(self.ours(), self.chain(), self.keras(), strict=True):
            for other, scale in ((chain, np.float32(1 / 255)), (keras, 1)):
                same = np.array_equal(ours[0] * scale, np.asarray(other[0]))
                same &= all(np.array_equal(v, other[1][t]) for t, v in ours[1].items())
                prove(bool(same), "pixels and labels of a batch")
            number += len(ours[0])
        return [f"pixels and labels of {number} images identical"]


def _memory(sides: Sides, name: str) -> dict[str, float]:
    """Own memory over some passes: before, at the peak, and what is left after each."""
    left: list[float] = []
    with peak_memory() as found:
        for _ in range(PASSES):
            sides.deliver(getattr(sides, name))
            left.append(memory_mib())
    return found | {"growth_after_first_pass": round(left[-1] - left[0], 1)}


if __name__ == "__main__":
    run_stage(main)
