"""Data beyond memory: simulated images through detect, split and an epoch of mtl-cnn.

An archive of so many drawn images, no two alike, is written as a tar; then each stage works in a
process of its own. Not simulated: decoding, cropping, index, shards, the search for copies, the
division, batches and training steps. The detector is a stand-in that takes the whole image for the
face at once, since the network's time and memory do not depend on the number of images. Crops are
sharded above `--shard-gib`. The epoch ends after `--steps` batches, which read rows from all over
the crops; 25,000 are all of those of 500,000 images.

`peak_mib` is what is the process's own, `resident_mib` has pages of mapped files in it, which the
system takes back when it needs them; the first one must stay below 3 GiB. `--plot` gets time and
memory as SVG.

    python -m benchmarks.large --images 20000
    python -m benchmarks.large --images 500000 --steps 25000 --plot docs/large.svg
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import altair as alt
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from benchmarks.machine import peak_memory, peak_resident_mib
from benchmarks.side_by_side import add_number, print_report
from stages.core.errors import UserError
from stages.core.params import load_params
from stages.core.sections import TASKS
from stages.core.stage import run_stage
from stages.dataset.examples import LabelledFaces
from stages.dataset.split_files import SPLITS
from stages.detection.detector import Detector, Face
from stages.detection.extraction import extract_in_processes
from stages.faces.index import read_cropped, read_crops, write_faces
from stages.faces.labels import age_group
from stages.networks import device
from stages.raw.archives import read_members
from stages.reporting.theme import ROWS, save
from stages.runs.resolve import resolve
from stages.splitting.duplicates import group_duplicates
from stages.splitting.stratified import divide

LIMIT_MIB = 3 * 1024.0
DRAWN = 25  # pixels of noise a side, blown up: no two images alike
THREADS = 2


def main() -> None:
    """Simulate, run each stage, draw, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_number(parser, "--images", 20_000, "simulated")
    add_number(parser, "--side", 100, "of the images and crops, pixels; >= 32")
    add_number(parser, "--steps", 200, "of the epoch, at most")
    parser.add_argument("--shard-gib", type=float, default=0.25)
    parser.add_argument("--plot", type=Path, help="SVG file")
    parser.add_argument("--folder", type=Path, help="for the data; default: a temporary one")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)  # stage and folder: a child
    arguments = parser.parse_args()
    if arguments.work:
        stage, folder = arguments.work
        print(json.dumps(measure(stage, Path(folder), arguments)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        found = {stage: _apart(stage, folder) for stage in STAGES}
    if arguments.plot:
        draw(arguments.plot, found)
    lines = [
        {"what": stage, **each, "at_most_mib": LIMIT_MIB, "met": each["peak_mib"] <= LIMIT_MIB}
        for stage, each in found.items()
    ]
    print_report(arguments, [], lines)


def _apart(stage: str, folder: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.large", *sys.argv[1:], "--work", stage, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{stage}: {done.stderr.strip()[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(stage: str, folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Do one stage's work: seconds and memory."""
    work = STAGES[stage](folder, arguments)
    with peak_memory() as memory:
        begin = time.perf_counter()
        number = work()
        seconds = time.perf_counter() - begin
    return {
        "images": number,
        "seconds": round(seconds, 3),
        "images_per_second": round(number / seconds, 1),
        "peak_mib": memory["peak"],
        "resident_mib": round(peak_resident_mib(), 1),
    }


Work = Callable[[], int]


def _draw_archive(folder: Path, arguments: argparse.Namespace) -> Work:
    side = (arguments.side, arguments.side)

    def work() -> int:
        with tarfile.open(folder / "drawn.tar", "w") as archive:
            for number in range(arguments.images):
                chance = np.random.default_rng(number)
                noise = chance.integers(0, 256, (DRAWN, DRAWN, 3), np.uint8)
                buffer = io.BytesIO()
                Image.fromarray(noise).resize(side).save(buffer, "JPEG", quality=75)
                age, gender, race = chance.integers([1, 0, 0], [100, 2, 5])
                info = tarfile.TarInfo(f"{age}_{gender}_{race}_{number:09}.jpg")
                info.size = buffer.tell()
                buffer.seek(0)
                archive.addfile(info, buffer)
                archive.members = []  # type: ignore[attr-defined]
        return int(arguments.images)

    return work


def whole_image(image: npt.NDArray[np.uint8]) -> list[Face]:
    """The stand-in: one face, all of the image."""
    height, width = image.shape[:2]
    return [Face(1.0, 0.0, 0.0, float(width), float(height))]


def _load() -> Detector:
    return whole_image


def _detect(folder: Path, arguments: argparse.Namespace) -> Work:
    detect = load_params().detect
    settings = detect.model_copy(update={"margin": 0.0, "size": arguments.side})

    def work() -> int:
        members = read_members(folder / "drawn.tar", detect)
        fates = extract_in_processes(members, _load, settings, THREADS)
        files = folder / "index.csv", folder / "crops.npy"
        above = arguments.shard_gib * 2**30
        return write_faces(fates, *files, arguments.side, above)["cropped"]

    return work


def _split(folder: Path, arguments: argparse.Namespace) -> Work:  # noqa: ARG001
    params = load_params()
    shares = {name: getattr(params.split, name) for name in SPLITS}

    def work() -> int:
        faces = read_cropped(folder / "index.csv")
        found = group_duplicates(
            read_crops(folder / "crops.npy"), **params.split.duplicates.model_dump()
        )
        ages = age_group(faces["age"], params.classes.age_upper_bounds)
        strata = list(zip(ages, faces["gender"], faces["race"], strict=True))
        division = divide(strata, found.groups, shares, params.split.conflicting, 0, params.seed)
        np.save(folder / "train.npy", np.flatnonzero(division.split == "train"))
        return len(faces)

    return work


def _epoch(folder: Path, arguments: argparse.Namespace) -> Work:
    params = load_params()
    device.prepare("cpu", precision="float32", seed=1)
    from stages.learning.checkpoints import Checkpoints
    from stages.learning.fit import Data, Examples, fit
    from stages.networks.network import build_network

    plan = resolve(params, "mtl-cnn", epochs=1)
    model = build_network(plan.network.model_copy(update={"size": arguments.side}))

    def work() -> int:
        table, rows = read_cropped(folder / "index.csv"), np.load(folder / "train.npy")
        chosen = np.random.default_rng(1).permutation(rows)
        chosen = chosen[: arguments.steps * plan.training.batch_size]
        of = table.iloc[chosen]
        ages = of["age"].to_numpy(np.int64)
        labels = {"age": age_group(ages, params.classes.age_upper_bounds)} | {
            task: of[task].to_numpy(np.int64) for task in TASKS[1:]
        }
        crops = read_crops(folder / "crops.npy")
        faces = LabelledFaces(crops, [], chosen, labels, ages)
        train = Examples(faces.rows, faces.labels)
        val = Examples(faces.rows[:64], {task: values[:64] for task, values in labels.items()})
        checkpoints = Checkpoints(folder / "checkpoints", "large")
        fit(
            model,
            Data(faces.crops, train, val),
            plan.training.model_copy(update={"seed": 1}),
            lambda frozen: frozen.predict(faces.crops),
            checkpoints,
            lambda *_: None,
        )
        checkpoints.clear()
        return len(chosen)

    return work


STAGES: dict[str, Callable[[Path, argparse.Namespace], Work]] = {
    "archive": _draw_archive,
    "detect": _detect,
    "split": _split,
    "epoch": _epoch,
}


def draw(path: Path, found: dict[str, dict[str, float]]) -> None:
    """Draw seconds and memory of each stage as an SVG file."""
    rows = pd.DataFrame(each | {"stage": stage} for stage, each in found.items())
    base = alt.Chart().encode(y=alt.Y("stage:N", sort=None, title=None))
    panels = []
    for column, title in (("seconds", "seconds"), ("peak_mib", "own memory, MiB")):
        space = alt.Scale(domainMax=1.15 * float(rows[column].max()), nice=False)
        bars = base.encode(x=alt.X(f"{column}:Q", title=title, scale=space))
        numbers = bars.mark_text(align="left", dx=4).encode(
            text=alt.Text(f"{column}:Q", format=",.0f")
        )
        panels.append(alt.layer(bars.mark_bar(), numbers).properties(width=310, height=130))
    save(alt.hconcat(*panels, data=ROWS), rows, path)


if __name__ == "__main__":
    run_stage(main)
