"""Photographs of one person by our embeddings, judged by a second network: dlib's ResNet.

Takes adults, and pairs of them that are no known copies of one picture: all pairs whose embeddings
are at least as similar as split.identity_similarity, some of each band below, and all pairs of some
random adults. dlib calls faces whose descriptors are within 0.6 one person. Its landmarks are found
in the crop at twice its size, in the proportions of the face and with its edges repeated; where its
detector finds no face, the whole crop is taken for one.

Run it where `dvc repro split` has made data/, with audit.embeddings: true. Two more packages bring
dlib and its models, which learnt from VGG and FaceScrub, for research:

    pip install --no-deps dlib-bin face-recognition-models
    python -m benchmarks.second_embedding --sheet /tmp/pairs.png
"""

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial.distance import pdist

from benchmarks.side_by_side import add_number, print_report
from stages.auditing.similar import sheet_of_pairs
from stages.core.errors import UserError
from stages.core.params import load_params
from stages.core.paths import CROPS, EMBEDDINGS, INDEX, SPLIT
from stages.core.stage import run_stage
from stages.dataset.split_files import read_split
from stages.detection.crops import BOX, widen
from stages.evaluation.bootstrap import effective_number, wilson
from stages.faces.index import read_cropped, read_crops
from stages.identity.people import group_people, similar_pairs

ADULT, CONFIDENCE, ENDS = 18, 0.95, ("first", "second")
BANDS = (1.01, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)  # of the cosine
DISTANCES = (0.4, 0.5, 0.6)  # of dlib's descriptors, from strict to the one that dlib names
ENLARGED, EDGE = 2, 40  # times, and pixels
SHEET, PAIRS_OF_A_PART = ((0.5, 0.6), (0.6, 1.01)), 24


def main() -> None:
    """Choose pairs, describe their images, print; draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_number(parser, "--sample", 1000, "random adults of whom all pairs are measured")
    add_number(parser, "--pairs", 200, "in each band below the threshold")
    parser.add_argument("--sheet", type=Path, help="a picture of pairs to write, PNG")
    arguments = parser.parse_args()
    params = load_params()
    threshold, copy = params.split.identity_similarity, params.audit.min_similarity
    faces, crops = read_cropped(INDEX), read_crops(CROPS)
    if not EMBEDDINGS.exists() or len(embeddings := np.load(EMBEDDINGS)) != len(faces):
        raise UserError(f"{EMBEDDINGS}: not of all crops; set audit.embeddings, `dvc repro split`")
    groups = faces["name"].map(read_split(SPLIT).set_index("name")["group"])
    copies = pd.factorize(groups)[0].astype(np.int64)
    adults = np.flatnonzero(faces["age"] >= ADULT)
    bounds = sorted({*BANDS, threshold}, reverse=True)
    found = similar_pairs(embeddings[adults], bounds[-1])
    found[["first", "second"]] = adults[found[["first", "second"]].to_numpy(np.int64)]
    found = without_copies(found, copies)
    pairs = draw(found, bounds, threshold, arguments.pairs, params.seed)
    random = np.random.default_rng(params.seed).permutation(adults)[: arguments.sample]
    images = np.union1d(random, pairs[["first", "second"]])
    described, unseen = describe(crops, faces, images, params.detect.margin)
    place = pd.Series(range(len(images)), images)
    ends = [described[place[pairs[end]]] for end in ENDS]
    pairs["distance"] = np.linalg.norm(ends[0] - ends[1], axis=1)
    others = all_pairs(random, described[place[random]], embeddings)
    others = without_copies(others[others["similarity"] < bounds[-1]], copies)
    lines = bands(pairs, found, copies, bounds)
    rest = len(adults) * (len(adults) - 1) // 2 - len(found)
    lines.append({"what": "random, below", "pairs": rest} | shares(others))
    recall = {"of_all": recall_of(lines, threshold), "of_bands": recall_of(lines[:-1], threshold)}
    sorts = [faces.loc[others[end], ["gender", "race"]].to_numpy() for end in ENDS]
    alike = others[(sorts[0] == sorts[1]).all(axis=1)]
    lines.append({"what": "random, below, of one gender and race"} | shares(alike))
    people = pairs[pairs["similarity"].between(threshold, copy, inclusive="left")]
    counts = {"adults": len(adults), "images": len(images), "unseen": unseen}
    false = false_pairs(people, copies)
    print_report(arguments, [], lines, **counts, recall=recall, false_pairs=false)
    if arguments.sheet:
        parts = [pairs[pairs["similarity"].between(*part, inclusive="left")] for part in SHEET]
        cv2.imwrite(str(arguments.sheet), draw_sheet(crops, parts, params.seed)[:, :, ::-1])


def draw_sheet(
    crops: npt.NDArray[np.uint8], parts: list[pd.DataFrame], seed: int
) -> npt.NDArray[np.uint8]:
    """A picture of pairs drawn from each part, for the eye."""
    names = [str(row) for row in range(len(crops))]
    sheets = []
    for part in parts:
        drawn = part.sample(min(len(part), PAIRS_OF_A_PART), random_state=seed)
        drawn = drawn.assign(test=drawn["first"], used=drawn["second"])
        sheets.append(sheet_of_pairs(crops, names, drawn, seed))
    return np.concatenate(sheets)


def without_copies(pairs: pd.DataFrame, copies: npt.NDArray[np.int64]) -> pd.DataFrame:
    """The pairs whose two images are not in one group of copies."""
    first, second = (copies[pairs[end].to_numpy(np.int64)] for end in ENDS)
    return pairs[first != second].reset_index(drop=True)


def draw(
    pairs: pd.DataFrame, bounds: Sequence[float], threshold: float, number: int, seed: int
) -> pd.DataFrame:
    """All pairs from the threshold on, and at most so many of each band below it."""
    kept = []
    for high, low in pairwise(bounds):
        band = pairs[pairs["similarity"].between(low, high, inclusive="left")]
        size = len(band) if low >= threshold else min(len(band), number)
        kept.append(band.sample(size, random_state=seed))
    return pd.concat(kept, ignore_index=True)


def describe(
    crops: npt.NDArray[np.uint8], faces: pd.DataFrame, rows: npt.NDArray[np.int64], margin: float
) -> tuple[npt.NDArray[np.float64], int]:
    """dlib's descriptors of some crops (N, 128), and in how many it finds no face itself."""
    if find_spec("dlib") is None or (models := find_spec("face_recognition_models")) is None:
        raise UserError("pip install --no-deps dlib-bin face-recognition-models")
    import dlib

    folder = Path(str(models.origin)).parent / "models"
    find = dlib.get_frontal_face_detector()
    mark = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
    network = dlib.face_recognition_model_v1(
        str(folder / "dlib_face_recognition_resnet_model_v1.dat")
    )
    values, unseen = [], 0
    for row in rows:
        face = faces.iloc[row]
        x1, y1, x2, y2 = (int(face[side]) for side in BOX)
        size = int(face["height"]), int(face["width"])
        left, top, right, bottom = widen((x1, y1, x2, y2), margin, *size)
        height = ENLARGED * crops.shape[1]
        width = round(height * (right - left) / (bottom - top))
        image = cv2.resize(crops[row], (width, height), interpolation=cv2.INTER_CUBIC)
        image = cv2.copyMakeBorder(image, EDGE, EDGE, EDGE, EDGE, cv2.BORDER_REPLICATE)
        boxes = find(image, 0)
        unseen += not boxes
        whole = dlib.rectangle(EDGE, EDGE, EDGE + width, EDGE + height)
        chip = dlib.get_face_chip(image, mark(image, boxes[0] if boxes else whole))
        values.append(np.array(network.compute_face_descriptor(chip)))
    return np.stack(values), unseen


def all_pairs(
    rows: npt.NDArray[np.int64],
    described: npt.NDArray[np.float64],
    embeddings: npt.NDArray[np.float16],
) -> pd.DataFrame:
    """All pairs of some images, with the cosine of ours and the distance of dlib's."""
    first, second = np.triu_indices(len(rows), 1)
    vectors = embeddings[rows].astype(np.float32)
    cosine = (vectors @ vectors.T)[first, second]
    ends = {"first": rows[first], "second": rows[second]}
    return pd.DataFrame({**ends, "similarity": cosine, "distance": pdist(described)})


def bands(
    pairs: pd.DataFrame,
    found: pd.DataFrame,
    copies: npt.NDArray[np.int64],
    bounds: Sequence[float],
) -> list[dict[str, Any]]:
    """For each band of the cosine the pairs found, and what dlib says of the measured ones."""
    lines: list[dict[str, Any]] = []
    for high, low in pairwise(bounds):
        part, whole = (
            each[each["similarity"].between(low, high, inclusive="left")] for each in (pairs, found)
        )
        if len(part):
            line: dict[str, object] = {"from": low, "pairs": len(whole)}
            lines.append(line | shares(part) | false_pairs(part, copies))
    return lines


def shares(pairs: pd.DataFrame) -> dict[str, object]:
    """The share of pairs within each of dlib's distances."""
    agrees = {f"within_{d}": float((pairs["distance"] <= d).mean()) for d in DISTANCES}
    return {"measured": len(pairs), **agrees}


def recall_of(lines: list[dict[str, Any]], threshold: float) -> float:
    """The estimated share of dlib's pairs, by its strictest distance, from a threshold on."""
    numbers = [line["pairs"] * line[f"within_{DISTANCES[0]}"] for line in lines]
    known = [n for n, line in zip(numbers, lines, strict=True) if line.get("from", 0) >= threshold]
    return sum(known) / sum(numbers)


def false_pairs(pairs: pd.DataFrame, copies: npt.NDArray[np.int64]) -> dict[str, object]:
    """The share of pairs beyond dlib's two larger distances, each with its interval.

    Pairs of one person depend on each other, and count as one group does in `effective_number`.
    """
    people = group_people(copies, pairs)[pairs["first"].to_numpy(np.int64)]
    line: dict[str, object] = {"of": len(pairs)}
    for distance in DISTANCES[1:]:
        share = float((pairs["distance"] > distance).mean())
        interval = wilson(share, effective_number(people), CONFIDENCE)
        line[f"beyond_{distance}"] = [share, *map(float, interval)]
    return line


if __name__ == "__main__":
    run_stage(main)
