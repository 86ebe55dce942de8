"""Memory over many calls of detection and of classification, and the speed of each by itself.

One image at a time, as a service would: images come round again and again. Memory is that of the
process itself, without mapped files, looked at twenty times; its slope after the first tenth
says what a call leaves behind.

    python -m benchmarks.memory --archive UTKFace.tar.gz
    python -m benchmarks.memory --archive UTKFace.tar.gz --calls 100000
"""

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faces import add_archive, cut_faces, labelled_members, mobilenet
from benchmarks.machine import memory_mib
from benchmarks.side_by_side import add_number, make_parser, print_report
from benchmarks.training import make_task
from stages.core.params import load_params
from stages.core.stage import run_stage
from stages.detection.extraction import extract_face
from stages.networks import device

LOOKS = 20
FLAT = 10.0  # MiB that 100,000 calls may leave: a tenth of a kilobyte each


def main() -> None:
    """Call, watch, print."""
    parser = make_parser(__doc__)
    add_archive(parser, 500)
    add_number(parser, "--calls", 4000, "of each")
    parser.add_argument("--variant", default="mtl-cnn", help="of params.yaml")
    parser.add_argument("--model", type=Path, help="a model.keras in place of a random network")
    arguments = parser.parse_args()
    params = load_params()
    device.prepare(params.machine.device, seed=1)
    members = labelled_members(arguments.archive, arguments.images, params.detect)
    detector, settings = mobilenet(params), params.detect
    found = {
        "detection": watch(lambda m: extract_face(m, detector, settings), members, arguments.calls)
    }
    faces = cut_faces(arguments.archive, arguments.images, params)
    if arguments.model:
        from stages.networks.network import load_network

        network = load_network(arguments.model)
    else:
        network = make_task(params, arguments.variant, faces, epochs=1, real=False).network()
    images = [np.ascontiguousarray(crop[np.newaxis]) for crop in faces.crops]
    found["classification"] = watch(network.predict_on_batch, images, arguments.calls)
    print_report(arguments, [], [{"what": name, **each} for name, each in found.items()])


def watch(call: Callable[[Any], object], inputs: Sequence[Any], calls: int) -> dict[str, object]:
    """Call a function over and over, and look at the memory.

    Returns:
        `images_per_second`; memory in MiB at the `first_tenth`, at the `end`, at most; and
        `mib_per_100000_calls`, the slope between.
    """
    call(inputs[0])  # what is made once is made now
    places, memory, begin = [], [], time.perf_counter()
    every = max(1, calls // LOOKS)
    for number, each in enumerate(islice(cycle(inputs), calls), start=1):
        call(each)
        if number % every == 0:
            places.append(number)
            memory.append(memory_mib())
    seconds = time.perf_counter() - begin
    settled = len(places) // 10
    slope = statistics.linear_regression(places[settled:], memory[settled:]).slope * 1e5
    return {
        "calls": calls,
        "images_per_second": round(calls / seconds, 1),
        "memory_mib": {
            "first_tenth": round(memory[settled], 1),
            "end": round(memory[-1], 1),
            "most": round(max(memory), 1),
        },
        "mib_per_100000_calls": round(slope, 2),
        "met": memory[-1] - memory[settled] <= FLAT,
    }


if __name__ == "__main__":
    run_stage(main)
