"""The whole way from an archive to the comparison, stage by stage: as published, and as it is now.

Before: the archive unpacked to files; RetinaFace (the same small network as ours: the published one
takes seconds an image) image by image, a JPEG for each crop; for each variant the published chain
(read, decode, convert, shuffle, batch) into Keras's `fit`, all of the network on every image, in
float32; then its predictions on the test images and scikit-learn's accuracy. Nothing of it starts
anew: one process does all of it.

Now: every stage of dvc.yaml in a new workspace, each in a process of its own, whose start is in its
time, in the precision that params.yaml chooses on this machine. `busy` is the share of all cores
that it kept busy. A stage that there was none of before has no `before`.

Each side takes its one turn on the same images; nothing is extrapolated.

    python -m benchmarks.workflow --archive UTKFace.tar.gz
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from dvc.utils.serialize import modify_yaml
from sklearn.metrics import accuracy_score

from benchmarks.detect import plain_detector, published_loop, write_archive
from benchmarks.faces import (
    THREADS,
    Faces,
    add_archive,
    backbone_weights,
    labelled_members,
    weights_of,
)
from benchmarks.repro import QUIET, copy_project, run_quietly
from benchmarks.side_by_side import add_number, print_report
from benchmarks.training import make_task
from stages.core.errors import UserError
from stages.core.params import Params, load_params
from stages.core.sections import TASKS
from stages.core.stage import run_stage
from stages.faces.labels import age_group, parse_name
from stages.networks import device
from stages.raw.archives import Member
from stages.weights.registry import DETECTORS

if TYPE_CHECKING:
    import tensorflow as tf

VARIANTS = [
    "mtl-cnn",
    "mtl-cnn-ge",
    "mtl-cnn-ge-gm",
    "mtl-cnn-ge-am",
    "mtl-vgg16-imagenet-frozen",
    "mtl-vgg16-imagenet-block5",
    "mtl-vgg16-imagenet-block5-ge",
    "mtl-vgg16-imagenet-block5-ge-gm",
    "mtl-vgg16-imagenet-block5-ge-am",
]
ONCE = ("download", "plan", "pretrained", "detect", "split", "lists")
LAST = ("audit", "compare")
SHARES = (0.8, 0.1)  # of the published lists that train and validate


def main() -> None:
    """Go both ways, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_archive(parser, 500)
    add_number(parser, "--epochs", 5, "of each training")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, help="of params.yaml")
    arguments = parser.parse_args()
    params = load_params()
    device.prepare(params.machine.device, precision="float32", seed=1, deterministic=False)
    members = labelled_members(arguments.archive, arguments.images, params.detect)
    with tempfile.TemporaryDirectory() as folder:
        archive = write_archive(members, Path(folder) / "images.tar.gz")
        now = Now(params, archive, arguments.variants, arguments.epochs, Path(folder) / "now")
        after = now.go()
        before = Before(params, members, archive, Path(folder) / "before")
        seconds = before.go(arguments.variants, arguments.epochs)
    lines = [_line(stage, seconds.get(stage), took) for stage, took in after.items()]
    took = after.values()
    whole = Took(sum(each.seconds for each in took), sum(each.cpu for each in took))
    lines.append(_line("all", sum(seconds.values()), whole))
    print_report(arguments, [], lines)


@dataclass(frozen=True)
class Took:
    """What a process took: seconds, and seconds of all cores together."""

    seconds: float
    cpu: float


def _line(stage: str, before: float | None, now: Took) -> dict[str, object]:
    line: dict[str, object] = {"what": stage, "unit": "s", "now": round(now.seconds, 1)}
    line["busy"] = round(now.cpu / now.seconds / THREADS, 2)
    if before is not None:
        line |= {"before": round(before, 1), "ratio": round(before / now.seconds, 2)}
    return line


class Now:
    """The stages of this project in a workspace of their own."""

    def __init__(
        self, params: Params, archive: Path, variants: Sequence[str], epochs: int, folder: Path
    ) -> None:
        self.folder, self.variants = folder, variants
        copy_project(folder)
        author = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost"]
        commit = ["commit", "--quiet", "--message", "a training wants one"]
        run_quietly(folder, ["git", *author, *commit])
        backbones = {params.variants[name].backbone for name in variants} - {"cnn"}
        with modify_yaml(folder / "params.yaml") as content:
            content["suite"] = list(variants)
            content["repeats"] = {"variants": [], "conditions": []}
            content["data"] |= {"source": "local", "local": [str(archive)]}
            content["train"]["max_epochs"] = epochs
            own = content["pretrained"]
            small = DETECTORS["mobilenet0.25"]
            own[small.key] = str(weights_of(small, params).resolve())
            for name in backbones:
                own[f"{name}-imagenet"] = str(backbone_weights(name, params).resolve())

    def go(self) -> dict[str, Took]:
        """All stages, in the order of dvc.yaml."""
        runs = [(stage, [stage]) for stage in ONCE]
        for variant in self.variants:
            runs += [(f"{stage} {variant}", [stage, variant]) for stage in ("train", "evaluate")]
        runs += [(stage, [stage]) for stage in LAST]
        return {name: self._run(arguments) for name, arguments in runs}

    def _run(self, arguments: Sequence[str]) -> Took:
        stage, *more = arguments
        command = [sys.executable, "-m", f"stages.{stage}", *more]
        begin = time.perf_counter()
        with tempfile.TemporaryFile("w+") as told:
            child = subprocess.Popen(
                command, cwd=self.folder, env=os.environ | QUIET, stdout=told, stderr=told
            )
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.perf_counter() - begin
            if child.returncode:
                told.seek(0)
                raise UserError(f"{' '.join(command)}: {told.read()[-2000:]}")
        return Took(seconds, usage.ru_utime + usage.ru_stime)


class Before:
    """The published way through the same images."""

    def __init__(
        self, params: Params, members: Sequence[Member], archive: Path, folder: Path
    ) -> None:
        self.params, self.members, self.archive, self.folder = params, members, archive, folder

    def go(self, variants: Sequence[str], epochs: int) -> dict[str, float]:
        """Seconds by stage, named as ours."""
        found = {"download": self._timed(self._unpack), "detect": self._timed(self._detect)}
        crops = sorted((self.folder / "crops").glob("*.jpg"))
        order = np.random.default_rng(1).permutation(len(crops))
        cuts = np.cumsum([round(share * len(crops)) for share in SHARES])
        lists = [[crops[i] for i in part] for part in np.split(order, cuts)]
        for variant in variants:
            rival = _Variant(self.params, variant, lists, epochs)
            found[f"train {variant}"] = self._timed(rival.train)
            found[f"evaluate {variant}"] = self._timed(rival.evaluate)
        return found

    @staticmethod
    def _timed(work: Callable[[], object]) -> float:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    def _unpack(self) -> None:
        shutil.unpack_archive(self.archive, self.folder / "images", "gztar", filter="data")

    def _detect(self) -> None:
        files = [self.folder / "images" / member.path for member in self.members]
        (self.folder / "crops").mkdir()
        detector = plain_detector(self.params)
        published_loop(files, self.folder / "crops", detector, self.params.detect)


class _Variant:
    """One variant, read from JPEGs and learnt by Keras alone; it has classes of age, not years."""

    def __init__(
        self, params: Params, variant: str, lists: Sequence[Sequence[Path]], epochs: int
    ) -> None:
        self.size, self.bounds = params.detect.size, params.classes.age_upper_bounds
        nothing = np.zeros((2, self.size, self.size, 3), np.uint8)
        labels = {task: np.zeros(2, np.int64) for task in TASKS}
        self.task = make_task(params, variant, Faces(nothing, ["a", "b"], labels), epochs)
        train, val, test = lists
        self.train_images = self._chain(train, shuffled=True)
        self.val_images = self._chain(val)
        self.test_images, self.test_labels = self._chain(test), self._labels(test)
        self.model: Any = None

    def _labels(self, files: Sequence[Path]) -> dict[str, np.ndarray]:
        found = [parse_name(file.name) for file in files]
        values = {task: np.array([getattr(each, task) for each in found]) for task in TASKS}
        values["age"] = age_group(values["age"], self.bounds)
        return {task: values[task] for task in self.task.classes}

    def _chain(self, files: Sequence[Path], shuffled: bool = False) -> "tf.data.Dataset":
        import tensorflow as tf

        def load(path, labels):  # type: ignore[no-untyped-def]
            image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
            image = tf.ensure_shape(image, (self.size, self.size, 3))
            return 255 * tf.image.convert_image_dtype(image, tf.float32), labels

        names = [str(file) for file in files]
        chain = tf.data.Dataset.from_tensor_slices((names, self._labels(files)))
        if shuffled:
            chain = chain.shuffle(len(files), seed=1)
        chain = chain.map(load, num_parallel_calls=tf.data.AUTOTUNE)
        return chain.batch(self.task.recipe.batch_size).prefetch(tf.data.AUTOTUNE)

    def train(self) -> None:
        """Build and fit."""
        import keras

        from stages.learning.optimizer import learning_rate

        self.model, recipe = self.task.network(), self.task.recipe
        self.model.compile(
            keras.optimizers.Adam(recipe.learning_rate, clipnorm=recipe.clipnorm or None),
            loss=dict.fromkeys(self.task.classes, "sparse_categorical_crossentropy"),
            loss_weights={name: getattr(recipe.loss_weights, name) for name in self.task.classes},
            metrics=dict.fromkeys(self.task.classes, "accuracy"),
            jit_compile=False,  # as it was; slower on some processors, so Keras is not to choose
        )
        rate = keras.callbacks.LearningRateScheduler(partial(learning_rate, recipe))
        self.model.fit(
            self.train_images,
            validation_data=self.val_images,
            epochs=recipe.epochs,
            verbose=0,
            callbacks=[rate],
        )

    def evaluate(self) -> dict[str, float]:
        """Accuracy by task on the test images."""
        outputs = self.model.predict(self.test_images, verbose=0)
        found = {}
        for task, labels in self.test_labels.items():
            found[task] = float(accuracy_score(labels, np.argmax(outputs[task], axis=1)))
        return found


if __name__ == "__main__":
    run_stage(main)
