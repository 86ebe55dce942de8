"""Stage detect: the row of every raw member in data/faces/index.csv, the crops in crops.npy."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tqdm import tqdm

from stages.core.errors import UserError
from stages.core.files import check_listed, write_checksums, write_json
from stages.core.params import Params, load_params
from stages.core.paths import CROPS, DETECT_METRICS, FACES, INDEX, PRETRAINED, RAW
from stages.core.stage import run_stage
from stages.detection import extraction
from stages.detection.detector import load_detector, providers
from stages.detection.forgetting import read_forgotten
from stages.faces.index import write_faces
from stages.raw.archives import Archive, list_archives, read_members

GIB = 2**30


def main() -> None:
    """Detect, crop and count."""
    params = load_params()
    detect = params.detect
    forgotten = read_forgotten()
    extractions = tqdm(_extract(params, forgotten), "detecting", unit="image", disable=None)
    counts = write_faces(extractions, INDEX, CROPS, detect.size, detect.shard_gib * GIB)
    write_checksums(FACES)
    total = sum(counts.values())
    if not counts["cropped"]:
        reasons = f"{INDEX} lists the reasons (see detect.detector and detect.score_threshold)"
        raise UserError(f"{RAW}: none of {total} files gave a face crop; {reasons}")
    percent = {f"{status}_percent": round(100 * n / total, 3) for status, n in counts.items()}
    write_json(DETECT_METRICS, {"members": total, **counts, **percent, "forgotten": len(forgotten)})
    print("detect: " + ", ".join(f"{n} {status}" for status, n in counts.items()))


def _extract(params: Params, forgotten: frozenset[str]) -> Iterator[extraction.Extraction]:
    detect, device = params.detect, params.machine.device
    weights = PRETRAINED / f"retinaface-{detect.detector}.onnx"
    keep = detect.damaged == "keep"
    check_listed(weights)
    members = (m for archive in _archives() for m in read_members(archive, detect, keep))
    if params.cluster.engine == "ray":
        load = partial(load_detector, detect, weights.read_bytes(), device=device)
        return extraction.extract_on_cluster(params.cluster, members, load, detect, forgotten)
    workers = params.machine.threads or os.cpu_count() or 1
    if len(providers(device)) > 1:  # threads share one network on the GPU
        detector = load_detector(detect, weights, device=device)
        return extraction.extract_faces(members, detector, detect, workers, forgotten)
    load = partial(load_detector, detect, weights, device=device)
    return extraction.extract_in_processes(members, load, detect, workers, forgotten)


def _archives() -> Iterator[Archive]:
    """The archives of data/raw, each checked when it is its turn."""
    for archive in list_archives(RAW):
        if isinstance(archive, Path):
            check_listed(archive)
        yield archive


if __name__ == "__main__":
    run_stage(main)
