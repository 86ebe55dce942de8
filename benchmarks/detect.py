"""Detection, from the archive to the crops, against the published loop.

Both begin with the archive. The loop unpacks it, then reads an image file with Pillow, detects its
faces with the same network, landmarks and all, on all cores, crops, and saves one JPEG, image after
image. Ours is the stage detect: archive to crops.npy and index.csv. The third figure is what the
network alone does with tensors that are ready, one thread in each of as many workers as there are
cores.

    python -m benchmarks.detect --archive UTKFace.tar.gz
"""

import shutil
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from PIL import Image

from benchmarks.faces import (
    THREADS,
    add_archive,
    labelled_members,
    mobilenet_loader,
    repeated,
    weights_of,
)
from benchmarks.side_by_side import compare, make_parser, print_report, prove, rates, take_turns
from stages.core.params import Params, load_params
from stages.core.sections import Detect
from stages.core.stage import run_stage
from stages.detection.crops import choose_face, crop, pixel_box
from stages.detection.detector import CHANNEL_MEANS_BGR, Detector, Face, faces_of
from stages.detection.extraction import BOX, extract_in_processes
from stages.faces.index import read_cropped, write_faces
from stages.raw.archives import Member, read_members
from stages.raw.images import Pixels, decode
from stages.weights.registry import DETECTORS

QUALITY = 95  # of the loop's JPEGs


@dataclass(frozen=True)
class Found:
    """Boxes in pixels (N, 4), and crops before they are encoded, uint8 (size, size, 3)."""

    boxes: list[list[int]]
    crops: list[Pixels]


def main() -> None:
    """Prove, time, print."""
    parser = make_parser(__doc__)
    add_archive(parser, 20_000)
    arguments = parser.parse_args()
    params = load_params()
    members = labelled_members(arguments.archive, arguments.images, params.detect)
    members = list(repeated(members, arguments.images))
    with tempfile.TemporaryDirectory() as folder:
        sides = Sides(members, params, Path(folder))
        proven = sides.prove()
        seconds = take_turns(
            {"ours": sides.ours, "loop": sides.loop, "network": sides.network}, arguments.rounds
        )
    speed = {name: rates(each, len(members)) for name, each in seconds.items()}
    lines = [
        compare("stage detect / published loop", speed["ours"], speed["loop"], "images/s", 1.8),
        compare("stage detect / network alone", speed["ours"], speed["network"], "images/s", 0.7),
    ]
    print_report(arguments, proven, lines, workers=THREADS)


class Sides:
    """The three contenders on the same images.

    Args:
        members: images in memory.
        params: how they are detected and cropped.
        folder: for the archive, the loop's files and all that is written.
    """

    def __init__(self, members: Sequence[Member], params: Params, folder: Path) -> None:
        self.params, self.folder = params, folder
        self.settings = params.detect
        self.load, self.one_at_a_time = mobilenet_loader(params), plain_detector(params)
        self.archive = write_archive(members, folder / "images.tar.gz")
        self.files = [folder / "images" / member.path for member in members]
        self.tensors = [
            cv2.dnn.blobFromImage(
                cv2.cvtColor(decode(m.data or b"", 10**8), cv2.COLOR_RGB2BGR),
                mean=CHANNEL_MEANS_BGR,
            )
            for m in members[:500]
        ] * -(-len(members) // 500)
        self.tensors = self.tensors[: len(members)]
        self.session = whole_network(params, threads=1)

    def ours(self) -> None:
        """As the stage detect does it."""
        members = read_members(self.archive, self.params.detect)
        fates = extract_in_processes(members, self.load, self.settings, THREADS)
        index, crops = self.folder / "index.csv", self.folder / "crops.npy"
        write_faces(fates, index, crops, self.settings.size)

    def loop(self) -> Found:
        """As published: one image after the other, one file each."""
        target = self.folder / "crops"
        target.mkdir(exist_ok=True)
        shutil.unpack_archive(self.archive, self.folder / "images", "gztar", filter="data")
        return published_loop(self.files, target, self.one_at_a_time, self.settings)

    def network(self) -> None:
        """The network alone, on tensors that are ready."""
        run: Callable[[np.ndarray], object] = lambda tensor: self.session.run(  # noqa: E731
            None, {"input": tensor}
        )
        with ThreadPoolExecutor(THREADS) as pool:
            for _ in pool.map(run, self.tensors):
                pass

    def prove(self) -> list[str]:
        """That the loop's boxes and crops are ours."""
        self.ours()
        loop, crops = self.loop(), np.load(self.folder / "crops.npy")
        boxes = read_cropped(self.folder / "index.csv")[list(BOX)].to_numpy(int)
        alike = len(boxes) == len(loop.boxes) > 0
        proven = [prove(alike, f"{len(boxes)} of {len(self.files)} images cropped by both")]
        apart = np.abs(boxes - loop.boxes).max(axis=1)
        proven.append(prove(bool(apart.max() <= 1), f"boxes within {apart.max()} px"))
        same = [np.array_equal(crops[i], loop.crops[i]) for i in np.flatnonzero(apart == 0)]
        return [*proven, prove(all(same), f"{len(same)} crops of equal boxes identical")]


def whole_network(params: Params, threads: int) -> onnxruntime.InferenceSession:
    """The small network as it is published, landmarks and all; 0 threads: one a core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    weights = weights_of(DETECTORS["mobilenet0.25"], params)
    return onnxruntime.InferenceSession(str(weights), options)


def plain_detector(params: Params) -> Detector:
    """The whole network on one image after the other, as its authors call it."""
    session, threshold = whole_network(params, threads=0), params.detect.score_threshold
    names = [output.name for output in session.get_outputs()]

    def detect(image: Pixels) -> list[Face]:
        height, width = image.shape[:2]
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        tensor = cv2.dnn.blobFromImage(bgr, mean=CHANNEL_MEANS_BGR)
        found = dict(zip(names, session.run(None, {"input": tensor}), strict=True))
        faces = faces_of(found["loc"][0], found["conf"][0, :, 1], height, width, threshold)
        limits = np.array([width, height, width, height])
        boxes = [np.clip([f.x1, f.y1, f.x2, f.y2], 0, limits).tolist() for f in faces]
        return [Face(f.score, *box) for f, box in zip(faces, boxes, strict=True)]

    return detect


def published_loop(
    files: Sequence[Path], target: Path, detector: Detector, settings: Detect
) -> Found:
    """Read, detect, crop, save; what was found, for the proof."""
    boxes, crops = [], []
    for file in files:
        with Image.open(file) as opened:
            image = np.asarray(opened.convert("RGB"))
        faces = detector(image)
        if not faces:
            continue
        face = choose_face(faces, settings.face, *image.shape[:2])
        box = pixel_box(face)
        cut = crop(image, box, settings.margin, settings.size)
        Image.fromarray(cut).save(target / f"{file.stem}.jpg", quality=QUALITY)
        boxes.append(list(box))
        crops.append(cut)
    return Found(boxes, crops)


def write_archive(members: Sequence[Member], path: Path) -> Path:
    """The members as a .tar.gz file."""
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            info = tarfile.TarInfo(member.path)
            info.size = len(member.data or b"")
            tar.addfile(info, BytesIO(member.data or b""))
    return path


if __name__ == "__main__":
    run_stage(main)
