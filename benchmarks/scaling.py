"""Time and memory of detect, split, features and training over the number of images.

Each stage's work is done in a process of its own, whose peak memory counts: `peak_mib` is what is
the process's own; `resident_mib` has pages of mapped files in it, which the system takes back when
it needs them. Time is fitted as a power of the number: an exponent of 1 is a straight line, 2 a
square. Where the archive has too few images they come again; for split as other pictures, each
time rolled by other pixels. `--plot` gets both curves as SVG.

    python -m benchmarks.scaling --archive UTKFace.tar.gz
    python -m benchmarks.scaling --archive UTKFace.tar.gz --sizes 2500 5000 10000 20000
    python -m benchmarks.scaling --archive UTKFace.tar.gz --stages detect split --sizes 200000
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

import altair as alt
import numpy as np
import pandas as pd

from benchmarks.faces import THREADS, Faces, cut_faces, mobilenet_loader
from benchmarks.machine import peak_memory, peak_resident_mib
from benchmarks.side_by_side import print_report
from benchmarks.training import make_task
from stages.core.errors import UserError
from stages.core.params import Params, load_params
from stages.core.sections import TASKS, ArchiveLimits
from stages.core.stage import run_stage
from stages.dataset.split_files import SPLITS
from stages.detection.extraction import extract_in_processes
from stages.faces.index import read_crops, write_faces
from stages.networks import device
from stages.raw.archives import Member, read_members
from stages.reporting.theme import ROWS, save
from stages.splitting.duplicates import group_duplicates
from stages.splitting.stratified import divide

FEATURES_OF, TRAINED = "mtl-vgg16-imagenet-frozen", "mtl-cnn"
CROPS, LABELS = "crops.npy", "labels.npy"
CUT = 20_000  # crops that are cut at most; more are these rolled
BLOCK = 1000  # crops rolled alike
LIMIT_MIB = 1536.0  # of detect and split


def main() -> None:
    """Run every stage at every size, fit, draw, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--archive", type=Path, required=True, help="UTKFace images")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--sizes", nargs="+", type=int, default=[200, 400, 800, 1600])
    parser.add_argument("--plot", type=Path, help="SVG file")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)  # folder and number: a child
    arguments = parser.parse_args()
    if arguments.work:
        folder, number = arguments.work
        (stage,) = arguments.stages
        print(json.dumps(measure(stage, arguments.archive, Path(folder), int(number))))
        return
    with tempfile.TemporaryDirectory() as folder:
        if set(arguments.stages) - {"detect"}:
            prepare(arguments.archive, max(arguments.sizes), Path(folder))
        found = {
            stage: {
                size: _apart(stage, arguments.archive, folder, size) for size in arguments.sizes
            }
            for stage in arguments.stages
        }
    lines = [_line(stage, by_size) for stage, by_size in found.items()]
    if arguments.plot:
        draw(arguments.plot, found)
    print_report(arguments, [], lines)


def _apart(stage: str, archive: Path, folder: str, size: int) -> dict[str, float]:
    """The measurement in a process of its own."""
    options = ["--archive", str(archive), "--stages", stage, "--work", folder, str(size)]
    command = [sys.executable, "-m", "benchmarks.scaling", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{stage} of {size} images: {done.stderr.strip()}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _line(stage: str, by_size: Mapping[int, Mapping[str, float]]) -> dict[str, object]:
    seconds = [each["seconds"] for each in by_size.values()]
    line: dict[str, object] = {"what": stage, "by_images": by_size}
    if len(by_size) > 1:
        line["exponent"] = round(exponent(list(by_size), seconds), 3)
    if stage in ("detect", "split"):
        most = max(each["peak_mib"] for each in by_size.values())
        line |= {"at_most_mib": LIMIT_MIB, "met": most <= LIMIT_MIB}
    return line


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """p of seconds = a sizes^p, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def prepare(archive: Path, number: int, folder: Path) -> None:
    """Write so many crops, and their classes, for all sizes and stages."""
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


def measure(stage: str, archive: Path, folder: Path, number: int) -> dict[str, float]:
    """Do a stage's work on so many images: seconds and memory."""
    params = load_params()
    work = STAGES[stage](params, archive, folder, number)
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


STAGES: dict[str, Callable[[Params, Path, Path, int], Work]] = {
    "detect": _detect,
    "split": _split,
    "features": _features,
    "training": _training,
}


def draw(path: Path, found: Mapping[str, Mapping[int, Mapping[str, float]]]) -> None:
    """Draw time, on logarithmic axes, and memory over the number of images as an SVG file."""
    rows = pd.DataFrame(
        {"stage": _legend(stage, by_size), "images": size, **measured}
        for stage, by_size in found.items()
        for size, measured in by_size.items()
    )
    sizes = sorted(set(rows["images"]))
    axis = alt.Axis(values=sizes, format=",")
    images = alt.X("images:Q", axis=axis, scale=alt.Scale(type="log", nice=False, padding=12))
    stage = alt.Color("stage:N", sort=None, title=None, legend=alt.Legend(columns=2))
    lines = alt.Chart().mark_line(point=True).encode(x=images, color=stage)
    lines = lines.properties(width=330, height=260)
    decades = alt.Axis(tickCount=4)
    panels = alt.hconcat(
        lines.encode(y=alt.Y("seconds:Q", axis=decades, scale=alt.Scale(type="log"))),
        lines.encode(y=alt.Y("peak_mib:Q", title="own memory, MiB")),
        data=ROWS,
    )
    save(panels, rows, path)


def _legend(stage: str, by_size: Mapping[int, Mapping[str, float]]) -> str:
    seconds = [each["seconds"] for each in by_size.values()]
    known = len(seconds) > 1
    return f"{stage}, exponent {exponent(list(by_size), seconds):.2f}" if known else stage


if __name__ == "__main__":
    run_stage(main)
