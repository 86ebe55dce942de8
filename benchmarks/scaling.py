"""Time and memory of detect, split, features and training over the number of images.

Each node's work is done in a process of its own, whose peak memory counts: `peak_mib` is what is
the process's own; `resident_mib` has pages of mapped files in it, which the system takes back when
it needs them. Time is fitted as a power of the number: an exponent of 1 is a straight line, 2 a
square. Where the archive has too few images they come again; for split as other pictures, each
time rolled by other pixels. `--plot` gets both curves as SVG.

    python -m benchmarks.scaling --archive UTKFace.tar.gz
    python -m benchmarks.scaling --archive UTKFace.tar.gz --sizes 2500 5000 10000 20000
    python -m benchmarks.scaling --archive UTKFace.tar.gz --nodes detect split --sizes 200000
"""

import argparse
import itertools
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from benchmarks.faces import THREADS, Faces, cut_faces, mobilenet_loader
from benchmarks.machine import peak_memory, peak_resident_mib
from benchmarks.side_by_side import print_report
from benchmarks.training import make_task
from stages.core.errors import UserError
from stages.core.files import atomic_write
from stages.core.params import Params, load_params
from stages.core.sections import TASKS, ArchiveLimits
from stages.core.stage import run_stage
from stages.dataset.archives import Member, read_members
from stages.dataset.index import read_crops, write_faces
from stages.detection.extraction import extract_in_processes
from stages.networks import device
from stages.splitting.duplicates import group_duplicates
from stages.splitting.groups import divide
from stages.splitting.stratified import SPLITS

FEATURES_OF, TRAINED = "mtl-vgg16-imagenet-frozen", "mtl-cnn"
CROPS, LABELS = "crops.npy", "labels.npy"
CUT = 20_000  # crops that are cut at most; more are these rolled
BLOCK = 1000  # crops rolled alike
LIMIT_MIB = 1536.0  # of detect and split
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00")  # Okabe and Ito's


def main() -> None:
    """Run every node at every size, fit, draw, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--archive", type=Path, required=True, help="UTKFace images")
    parser.add_argument("--nodes", nargs="+", choices=NODES, default=list(NODES))
    parser.add_argument("--sizes", nargs="+", type=int, default=[200, 400, 800, 1600])
    parser.add_argument("--plot", type=Path, help="SVG file")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)  # folder and number: a child
    arguments = parser.parse_args()
    if arguments.work:
        folder, number = arguments.work
        (node,) = arguments.nodes
        print(json.dumps(measure(node, arguments.archive, Path(folder), int(number))))
        return
    with tempfile.TemporaryDirectory() as folder:
        if set(arguments.nodes) - {"detect"}:
            prepare(arguments.archive, max(arguments.sizes), Path(folder))
        found = {
            node: {size: _apart(node, arguments.archive, folder, size) for size in arguments.sizes}
            for node in arguments.nodes
        }
    lines = [_line(node, by_size) for node, by_size in found.items()]
    if arguments.plot:
        draw(arguments.plot, found)
    print_report(arguments, [], lines)


def _apart(node: str, archive: Path, folder: str, size: int) -> dict[str, float]:
    """The measurement in a process of its own."""
    options = ["--archive", str(archive), "--nodes", node, "--work", folder, str(size)]
    command = [sys.executable, "-m", "benchmarks.scaling", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{node} of {size} images: {done.stderr.strip()}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _line(node: str, by_size: Mapping[int, Mapping[str, float]]) -> dict[str, object]:
    seconds = [each["seconds"] for each in by_size.values()]
    line: dict[str, object] = {"what": node, "by_images": by_size}
    if len(by_size) > 1:
        line["exponent"] = round(exponent(list(by_size), seconds), 3)
    if node in ("detect", "split"):
        most = max(each["peak_mib"] for each in by_size.values())
        line |= {"at_most_mib": LIMIT_MIB, "met": most <= LIMIT_MIB}
    return line


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """p of seconds = a sizes^p, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def prepare(archive: Path, number: int, folder: Path) -> None:
    """Write so many crops, and their classes, for all sizes and nodes."""
    faces = cut_faces(archive, min(number, CUT), load_params())
    np.save(folder / LABELS, np.stack([faces.labels[task] for task in TASKS]))
    cut = faces.crops
    shape = (number, *cut.shape[1:])
    crops = np.lib.format.open_memmap(folder / CROPS, "w+", np.uint8, shape)
    for start in range(0, number, BLOCK):
        places = np.arange(start, min(start + BLOCK, number))
        again = start // len(cut)
        shift = (17 * again % shape[1], 29 * again % shape[2])
        crops[places] = np.roll(cut[places % len(cut)], shift, axis=(1, 2))
    crops.flush()


def measure(node: str, archive: Path, folder: Path, number: int) -> dict[str, float]:
    """Do a node's work on so many images: seconds and memory."""
    params = load_params()
    work = NODES[node](params, archive, folder, number)
    with peak_memory() as memory:
        begin = time.perf_counter()
        work()
        seconds = time.perf_counter() - begin
    return {
        "seconds": round(seconds, 3),
        "images_per_second": round(number / seconds, 1),
        "before_mib": memory["before"],
        "peak_mib": memory["peak"],
        "resident_mib": round(peak_resident_mib(), 1),
    }


Work = Callable[[], object]


def _detect(params: Params, archive: Path, folder: Path, number: int) -> Work:
    members = itertools.islice(stream(archive, params.detect), number)
    fates = extract_in_processes(members, mobilenet_loader(params), params.detect, THREADS)
    files = folder / "detect.csv", folder / "detect.npy"
    return lambda: write_faces(fates, *files, params.detect.size)


def stream(archive: Path, limits: ArchiveLimits) -> Iterator[Member]:
    """The members of an archive, over and over, under other paths each time."""
    for again in itertools.count():
        empty = True
        for member in read_members(archive, limits):
            empty = False
            yield replace(member, path=f"{again}/{member.path}") if again else member
        if empty:
            return


def _split(params: Params, archive: Path, folder: Path, number: int) -> Work:  # noqa: ARG001
    labels = np.load(folder / LABELS)
    strata = list(map(tuple, labels[:, np.arange(number) % labels.shape[1]].T.tolist()))
    crops = read_crops(folder / CROPS)[:number]
    shares = {name: getattr(params.split, name) for name in SPLITS}

    def work() -> None:
        duplicates = group_duplicates(crops, **params.split.duplicates.model_dump())
        divide(strata, duplicates.groups, shares, params.split.conflicting, 0, params.seed)

    return work


def _features(params: Params, archive: Path, folder: Path, number: int) -> Work:  # noqa: ARG001
    device.prepare(params.machine.device, precision="float32", seed=1, xla=True)
    from stages.learning.features import frozen_features
    from stages.networks.network import split_frozen

    faces = _faces(folder, number)
    parts = split_frozen(make_task(params, FEATURES_OF, faces, epochs=1, real=False).network())
    assert parts is not None  # it is frozen
    parts[0].predict_on_batch(faces.crops[:64])  # compiles
    target = folder / f"features-{number}"
    return lambda: frozen_features(parts[0], faces.crops, str(number), target, math.inf)


def _training(params: Params, archive: Path, folder: Path, number: int) -> Work:  # noqa: ARG001
    device.prepare(params.machine.device, precision="float32", seed=1)
    task = make_task(params, TRAINED, _faces(folder, number), epochs=2)
    model = task.network()
    return lambda: task.fit(model, folder)


def _faces(folder: Path, number: int) -> Faces:
    labels = np.load(folder / LABELS)
    labels = labels[:, np.arange(number) % labels.shape[1]]
    crops = read_crops(folder / CROPS)[:number]
    names = [str(place) for place in range(number)]
    return Faces(crops, names, dict(zip(TASKS, labels, strict=True)))


NODES: dict[str, Callable[[Params, Path, Path, int], Work]] = {
    "detect": _detect,
    "split": _split,
    "features": _features,
    "training": _training,
}


def draw(path: Path, found: Mapping[str, Mapping[int, Mapping[str, float]]]) -> None:
    """Time, on logarithmic axes, and memory over the number of images, as SVG."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    for (node, by_size), colour in zip(found.items(), COLOURS, strict=False):
        sizes, seconds = list(by_size), [each["seconds"] for each in by_size.values()]
        label = node
        if len(sizes) > 1:
            label = f"{node}, exponent {exponent(sizes, seconds):.2f}"
        time_axes.loglog(sizes, seconds, marker="o", color=colour, label=label)
        memory = [each["peak_mib"] for each in by_size.values()]
        memory_axes.semilogx(sizes, memory, marker="o", color=colour)
    time_axes.set_title("seconds")
    memory_axes.set(title="own memory, MiB", ylim=(0, None))
    for axes in (time_axes, memory_axes):
        axes.set_xlabel("images")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.grid(color="#eeeeee")
    figure.legend(loc="outside lower center", ncols=len(found), frameon=False)
    with mpl.rc_context({"svg.hashsalt": "scaling"}), atomic_write(path) as partial:
        figure.savefig(partial, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    run_stage(main)
