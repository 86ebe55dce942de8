"""Images that must stay together because they are the same picture.

UTKFace holds files that are identical byte for byte, many under different labels. Their
crops are identical too; here they form a group, which a split must not divide.
"""

import hashlib

import numpy as np
import numpy.typing as npt


def group_identical(crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Number the groups of identical crops in the order of their first member.

    Args:
        crops: uint8 (N, height, width, 3); may be mapped from a file.

    Returns:
        int64 (N,): the group of each crop; equal numbers exactly for equal pixels.
    """
    numbers: dict[bytes, int] = {}
    groups = [
        numbers.setdefault(hashlib.sha256(crop.tobytes()).digest(), len(numbers)) for crop in crops
    ]
    return np.array(groups, np.int64)
