"""Training, features and predictions from shards are those from one file."""

from pathlib import Path

import numpy as np
import pytest
from test_fit import IMAGES, eager, examples, network, same, settings_of  # noqa: F401

from stages.faces.shards import ShardedCrops, write_shards
from stages.learning.checkpoints import Checkpoints
from stages.learning.features import frozen_features
from stages.learning.fit import Data, fit
from stages.networks.network import split_frozen
from stages.networks.prediction import predict_rows


@pytest.mark.usefixtures("eager")
def test_shards_give_the_same_weights_features_and_predictions(tmp_path: Path):
    write_shards(IMAGES, tmp_path / "crops.npy", 7 * IMAGES[0].nbytes)
    sharded = ShardedCrops(tmp_path / "crops.npy")
    found = []
    for number, images in enumerate((IMAGES, sharded)):
        model = network(tasks="gender")
        fit(
            model,
            Data(images, examples(16, 1, "gender"), examples(8, 2, "gender")),  # type: ignore[arg-type]
            settings_of(epochs=1),
            lambda frozen: frozen.predict(IMAGES),
            Checkpoints(tmp_path / f"checkpoints-{number}", "it"),
            lambda *_: None,
        )
        rows = np.array([60, 3, 3, 41])
        outputs = predict_rows(model, images, rows, 3)["gender"]  # type: ignore[arg-type]
        parts = split_frozen(network("vgg16", "block5", "gender"))
        assert parts is not None
        folder = tmp_path / f"features-{number}"
        features = frozen_features(parts[0], images, "it", folder, 1e9)  # type: ignore[arg-type]
        found.append([*model.get_weights(), outputs, np.asarray(features)])
    assert same(*found)
