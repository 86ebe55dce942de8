"""Node detect: every raw member's fate in data/faces/index.csv, the crops in crops.npy."""

import os
from functools import partial
from pathlib import Path

from tqdm import tqdm

from stages.core.errors import UserError
from stages.core.files import write_json
from stages.core.params import load_params
from stages.core.stage import run_stage
from stages.dataset.archives import Limits, list_archives, read_members
from stages.dataset.forgetting import read_forgotten
from stages.dataset.index import write_faces
from stages.detection.detector import ScalePolicy, load_detector, on_gpu
from stages.detection.extraction import CropSettings, extract_faces
from stages.detection.parallel import extract_in_processes, extract_on_cluster, load_from_bytes

RAW = Path("data/raw")
FACES = Path("data/faces")
METRICS = Path("metrics/detect.json")
GIB = 2**30


def main() -> None:
    """Detect, crop and count."""
    params = load_params()
    detect = params.detect
    weights = Path("data/pretrained") / f"retinaface-{detect.detector}.onnx"
    scale = ScalePolicy(**detect.scale.model_dump())
    settings = CropSettings(detect.face, detect.margin, detect.size, detect.max_pixels)
    members = (
        member
        for archive in list_archives(RAW)
        for member in read_members(
            archive, Limits.of(detect), keep_damaged=detect.damaged == "keep"
        )
    )
    forgotten = read_forgotten()
    device = params.machine.device
    load = partial(
        load_detector, detect.detector, weights, detect.score_threshold, scale, device=device
    )
    if params.cluster.engine == "ray":
        sent = load_from_bytes(
            detect.detector, weights.read_bytes(), detect.score_threshold, scale, device
        )
        found = extract_on_cluster(params.cluster, members, sent, settings, forgotten)
    else:
        workers = params.machine.threads or os.cpu_count() or 1
        # Threads share the one network that a GPU has to hold.
        found = (
            extract_faces(members, load(), settings, workers, forgotten)
            if on_gpu(device)
            else extract_in_processes(members, load, settings, workers, forgotten)
        )
    fates = tqdm(found, "detecting", unit="image", disable=None)
    files, limit = (FACES / "index.csv", FACES / "crops.npy"), detect.shard_gib * GIB
    counts = write_faces(fates, *files, detect.size, limit)
    total = sum(counts.values())
    if not counts["cropped"]:
        raise UserError(
            f"{RAW}: none of {total} files gave a face crop; the reasons stand in "
            f"{FACES / 'index.csv'} (see detect.detector and detect.score_threshold)"
        )
    percent = {f"{status}_percent": round(100 * n / total, 3) for status, n in counts.items()}
    write_json(METRICS, {"members": total, **counts, **percent, "forgotten": len(forgotten)})
    print("detect: " + ", ".join(f"{n} {status}" for status, n in counts.items()))


if __name__ == "__main__":
    run_stage(main)
