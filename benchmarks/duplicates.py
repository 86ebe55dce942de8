"""The search for copies against a plain loop over all pairs of crops, by the same rule.

The loop keeps each crop's hashes (of it and of its mirror image) as whole numbers, looks at each
pair of them in Python, and correlates the pixels of the pairs that are near. Its time grows with
the square of the number: compare at the number that counts.

    python -m benchmarks.duplicates --archive UTKFace.tar.gz
    python -m benchmarks.duplicates --archive UTKFace.tar.gz --images 24000 --rounds 1
"""

import cv2
import numpy as np

from benchmarks.faces import add_archive, cut_faces
from benchmarks.machine import peak_memory
from benchmarks.side_by_side import compare, inverse, make_parser, print_report, prove, take_turns
from stages.core.params import load_params
from stages.core.stage import run_stage
from stages.splitting.duplicates import LUMA, near_duplicates
from stages.splitting.duplicates import THUMBNAIL as SIDE

Pair = tuple[int, int, bool]


def main() -> None:
    """Prove, time, print."""
    parser = make_parser(__doc__, rounds=3)
    add_archive(parser, 6000)
    arguments = parser.parse_args()
    params = load_params()
    crops = cut_faces(arguments.archive, arguments.images, params).crops
    rule = params.split.duplicates.model_dump()
    proven = prove_equal(crops[:1500], **rule)
    seconds = take_turns(
        {
            "ours": lambda: near_duplicates(crops, **rule),
            "rival": lambda: all_pairs(crops, **rule),
        },
        arguments.rounds,
    )
    with peak_memory() as memory:
        near_duplicates(crops, **rule)
    line = compare(
        "near_duplicates / loop over all pairs",
        inverse(seconds["ours"]),
        inverse(seconds["rival"]),
        "searches/s",
        10.0,
    )
    print_report(arguments, proven, [line], seconds=seconds, memory_mib=memory)


def all_pairs(crops: np.ndarray, max_bits: int, min_correlation: float) -> set[Pair]:
    """The pairs of crops of one picture: first, second, whether only mirrored.

    Args:
        crops: uint8 RGB (N, height, width, 3).
        max_bits: by which the hashes of a pair differ at most.
        min_correlation: of the pixels of a pair.
    """
    area = cv2.INTER_AREA
    small = [cv2.resize(crop, (SIDE, SIDE), interpolation=area) for crop in crops]
    flipped = [np.ascontiguousarray(image[:, ::-1]) for image in small]
    hashes = [_hash(image) for image in small]
    pairs: set[Pair] = set()
    for mirrored, others in ((False, small), (True, flipped)):
        compared = [_hash(image) for image in others]
        for first, own in enumerate(hashes):
            for second in range(first + 1, len(compared)):
                if (
                    (own ^ compared[second]).bit_count() <= max_bits
                    and (first, second, False) not in pairs
                    and _correlation(small[first], others[second]) >= min_correlation
                ):
                    pairs.add((first, second, mirrored))
    return pairs


def _hash(image: np.ndarray) -> int:
    bits = cv2.img_hash.PHash.create().compute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    return int.from_bytes(bits.tobytes(), "little")


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """In colour or in grey, the higher one; 0 without contrast."""
    forms = ((first, second), (first @ LUMA, second @ LUMA))
    return max(_pearson(a.astype(float).ravel(), b.astype(float).ravel()) for a, b in forms)


def _pearson(first: np.ndarray, second: np.ndarray) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def prove_equal(crops: np.ndarray, max_bits: int, min_correlation: float) -> list[str]:
    """That both find the same pairs among some crops, a few of them copied."""
    copies = np.concatenate([crops, crops[:5], crops[5:10, :, ::-1]])
    found = near_duplicates(copies, max_bits, min_correlation)
    ours = set(zip(found["first"], found["second"], found["mirrored"], strict=True))
    same = ours == all_pairs(copies, max_bits, min_correlation)
    return [prove(same and len(ours) >= 10, f"{len(ours)} pairs among {len(copies)} crops")]


if __name__ == "__main__":
    run_stage(main)
