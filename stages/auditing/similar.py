"""Test images that resemble a used one, by face embeddings: a second opinion on the split.

The split compares hashes and pixels, so that counting with the same method guards what was done and
not what was found. Embeddings also recognise copies that are turned, cropped or covered, and other
photographs of the same person, which are no copies.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

COLUMNS = ("test", "used", "used_for", "similarity")
PAIRS_ON_SHEET, PAIRS_IN_ROW, CAPTION = 60, 6, 16  # the last one in pixels


def similar_uses(
    test: Sequence[str], used: pd.DataFrame, names: Sequence[str], pairs: pd.DataFrame
) -> pd.DataFrame:
    """Pairs of a test image and a similar one that was used; columns `COLUMNS`.

    `used` has the columns of `read_used`, `pairs` is what `similar_pairs` returns for crops with
    these names.
    """
    known = np.array(names, dtype=object)
    first, second = (known[pairs[column].to_numpy(np.int64)] for column in ("first", "second"))
    similarity = pairs["similarity"].to_numpy()
    both = pd.DataFrame(
        {
            "test": np.concatenate([first, second]),
            "used": np.concatenate([second, first]),
            "similarity": np.tile(similarity, 2),
        }
    )
    found = both[both["test"].isin(set(test))].merge(used.rename(columns={"name": "used"}))
    order = found.sort_values("similarity", ascending=False, kind="stable", ignore_index=True)
    return order[list(COLUMNS)]


def count_similar(found: pd.DataFrame, min_similarity: float) -> dict[str, int]:
    """The test images that are likely copies, and those that resemble a used image at all."""
    strict = found[found["similarity"] >= min_similarity]
    return {"likely_copies": strict["test"].nunique(), "similar": found["test"].nunique()}


def sheet_of_pairs(
    crops: npt.NDArray[np.uint8], names: Sequence[str], found: pd.DataFrame, seed: int
) -> npt.NDArray[np.uint8]:
    """A picture of pairs side by side with their similarity, uint8 RGB, for the eye.

    Of up to `PAIRS_ON_SHEET` pairs of `similar_uses`, drawn at random, the most similar first.
    """
    chosen = found.sample(min(len(found), PAIRS_ON_SHEET), random_state=seed)
    chosen = chosen.sort_values("similarity", ascending=False, kind="stable")
    size, place = crops.shape[1], {name: row for row, name in enumerate(names)}
    lines = -(-len(chosen) // PAIRS_IN_ROW) or 1
    cell, width = size + CAPTION, PAIRS_IN_ROW * (2 * size + CAPTION)
    sheet = np.full((lines * cell, width, 3), 255, np.uint8)
    for number, pair in enumerate(chosen.itertuples()):
        top = number // PAIRS_IN_ROW * cell
        left = number % PAIRS_IN_ROW * (2 * size + CAPTION)
        for shift, name in ((0, pair.test), (size, pair.used)):
            box = sheet[top : top + size, left + shift : left + shift + size]
            box[:] = crops[place[str(name)]]
        text, font = f"{pair.similarity:.2f}", cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(sheet, text, (left, top + cell - 4), font, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return sheet
