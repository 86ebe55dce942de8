"""TensorFlow for these tests, set up before any of them imports it; a small model to use."""

import json
from pathlib import Path

import pytest
from specs import network_of

from stages.networks import device

# Here and not in a fixture: the test modules import Keras when they are collected.
device.prepare(device="cpu", precision="float32", deterministic=True, seed=1)

TEMPERATURES = {"age": 2.0, "gender": 0.5, "race": 1.25}


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder models/small as stage train leaves it, untrained, beside its run's temperatures."""
    import keras
    import numpy as np

    from stages.core.files import write_json
    from stages.core.params import load_params
    from stages.networks.input_spec import INPUT_SPEC_FILE, InputSpec
    from stages.networks.network import save_network

    params = load_params(Path(__file__).parents[2] / "params.yaml")
    top = tmp_path_factory.mktemp("workspace")
    folder = top / "models/small"
    folder.mkdir(parents=True)
    keras.utils.set_random_seed(3)
    classes = {task: len(params.classes.of(task)) for task in ("age", "gender", "race")}
    network = network_of("cnn", "all", "ge_am", "unit", classes, params.detect.size)
    # Features of random layers hardly differ; spread, so that each face gets other classes.
    for layer in network.layers:
        if layer.name in classes or layer.name.endswith("_hidden"):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel * 8, np.random.default_rng(1).normal(0, 0.3, bias.shape)])
    save_network(network, folder / "model.keras")
    input_spec = InputSpec.of(params, list(classes))
    write_json(folder / INPUT_SPEC_FILE, input_spec.model_dump())
    evaluation = top / "data/evaluation/small"
    evaluation.mkdir(parents=True)
    (evaluation / "calibration.json").write_text(
        json.dumps({"flip_tta": False, "temperatures": TEMPERATURES})
    )
    return folder
