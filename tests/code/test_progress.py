"""A network that is watched answers as it does alone, and is counted to its end."""

import io

import numpy as np
import pytest
from tqdm import tqdm

from stages.evaluation import progress
from stages.networks.prediction import predict_rows


class Means:
    """The mean of each image, and one minus that."""

    def predict_on_batch(self, x: np.ndarray, /) -> dict[str, np.ndarray]:
        mean = x.reshape(len(x), -1).mean(axis=1) / 255
        return {"gender": np.stack([mean, 1 - mean], axis=1)}


@pytest.mark.parametrize("mirrored", [False, True])
def test_all_images_are_counted_and_answered_as_without_a_bar(
    mirrored: bool, monkeypatch: pytest.MonkeyPatch
):
    bars: list[tqdm] = []

    def noted(**options: object) -> tqdm:
        bars.append(tqdm(**options | {"disable": False, "file": io.StringIO()}))  # type: ignore
        return bars[-1]

    monkeypatch.setattr(progress, "tqdm", noted)
    images = np.random.default_rng(1).integers(0, 256, (11, 8, 8, 3), np.uint8)
    rows = np.arange(10)
    with progress.watched(Means(), len(rows) * (1 + mirrored), "predicting") as watched:
        found = predict_rows(watched, images, rows, 4, mirrored)
    np.testing.assert_array_equal(
        found["gender"], predict_rows(Means(), images, rows, 4, mirrored)["gender"]
    )
    assert (bars[0].n, bars[0].total) == (len(rows) * (1 + mirrored),) * 2


def test_nothing_is_said_where_nobody_looks_on(capfd: pytest.CaptureFixture[str]):
    with progress.watched(Means(), 2, "predicting") as watched:
        watched.predict_on_batch(np.zeros((2, 4, 4, 3), np.uint8))
    assert capfd.readouterr() == ("", "")
