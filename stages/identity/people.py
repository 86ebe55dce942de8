"""Photographs of one person, recognised by face embeddings."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Numbers = npt.NDArray[np.int64]

ROWS = 1024  # compared with all others at once: 80 MB for 20,000 crops


def similar_pairs(embeddings: npt.NDArray[np.float16], min_similarity: float) -> pd.DataFrame:
    """All pairs of crops whose embeddings are similar, the most similar first.

    From embeddings of unit length (N, D). Columns first, second (rows, first < second) and
    similarity, the cosine, at least `min_similarity`.
    """
    vectors, parts = embeddings.astype(np.float32), []
    for top in range(0, len(vectors), ROWS):
        cosines = vectors[top : top + ROWS] @ vectors[top:].T
        first, second = np.nonzero(np.triu(cosines >= min_similarity, 1))
        similarity = cosines[first, second].astype(np.float64)
        parts.append(
            pd.DataFrame({"first": first + top, "second": second + top, "similarity": similarity})
        )
    pairs = pd.concat(parts) if parts else pd.DataFrame(columns=["first", "second", "similarity"])
    return pairs.sort_values("similarity", ascending=False, kind="stable", ignore_index=True)


def group_people(copies: Numbers, pairs: pd.DataFrame) -> Numbers:
    """The person of each crop (N), numbered in the order of their first crops.

    One person are copies of one picture (their groups, (N)), crops of `pairs`, and whom these
    connect.
    """
    _, first = np.unique(copies, return_index=True)
    ends = np.concatenate([np.arange(len(copies)), pairs["first"]])
    others = np.concatenate([first[copies], pairs["second"]]).astype(np.int64)
    ones = np.ones(len(ends), np.int8)
    graph = coo_array((ones, (ends.astype(np.int64), others)), (len(copies), len(copies)))
    _, component = connected_components(graph, directed=False)
    return pd.factorize(component)[0].astype(np.int64)


def count_people(people: Numbers, copies: Numbers) -> dict[str, int]:
    """Count the people with several pictures, their crops, and those of the largest."""
    pictures = pd.Series(copies).groupby(people).nunique()
    crops = np.bincount(people)[pictures.index[pictures > 1]]
    return {
        "people_with_several_pictures": len(crops),
        "images_of_people_with_several_pictures": int(crops.sum()),
        "images_of_largest_person": int(crops.max(initial=0)),
    }
