"""The published variants as networks: their size, what learns in them, how they come back."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from specs import network_of

from stages.comparison.table import PUBLISHED
from stages.networks.network import cut_layer, load_network, save_network, split_frozen

CLASSES = {"age": 5, "gender": 2, "race": 5}
SIZE = 32  # the smallest that Keras's backbones take; the number of weights is that at 100
ROWS = pd.read_csv(PUBLISHED, keep_default_na=False)
PARTS = ["tasks", "backbone", "trainable", "heads"]
STRUCTURES = ROWS.drop_duplicates(PARTS)
CUTS = {
    ("vgg16", "none"): "pooled",
    ("vgg16", "block5"): "block4_pool",
    ("vgg19", "block5"): "block4_pool",
    ("resnet50", "none"): "pooled",
    ("resnet50", "conv5"): "conv4_block6_out",
    ("densenet121", "none"): "pooled",
}


@dataclass(frozen=True)
class Built:
    row: pd.Series
    model: keras.Model
    photos: np.ndarray


def build(tasks: str, backbone: str, trainable: str, heads: str) -> keras.Model:
    keras.utils.set_random_seed(1)
    classes = {task: CLASSES[task] for task in tasks.split()}
    return network_of(backbone, trainable, heads, "unit", classes, SIZE)


@pytest.fixture(
    scope="module", params=[row for _, row in STRUCTURES.iterrows()], ids=STRUCTURES.variant
)
def built(request: pytest.FixtureRequest) -> Built:
    photos = np.random.default_rng(5).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    return Built(request.param, build(*request.param[PARTS]), photos)


def assert_same(found: dict, wanted: dict, tolerance: float) -> None:
    assert list(found) == list(wanted)
    for task, values in wanted.items():
        assert np.asarray(found[task]) == pytest.approx(np.asarray(values), abs=tolerance), task


def test_a_network_is_as_large_as_every_published_one_of_its_structure(built: Built):
    model = built.model
    weights = {"total_params": model.weights, "trainable_params": model.trainable_weights}
    sizes = {name: sum(int(np.prod(w.shape)) for w in part) for name, part in weights.items()}
    alike = ROWS[(ROWS[PARTS] == built.row[PARTS]).all(axis=1)]
    assert built.row.variant in set(alike.variant)
    for _, row in alike.iterrows():
        known = {name: int(row[name]) for name in sizes if row[name]}
        assert known == {name: sizes[name] for name in known}, row.variant


def test_only_the_own_cnn_and_one_resnet_have_no_published_size():
    unknown = ROWS[ROWS.trainable_params == ""]
    assert set(unknown.backbone) == {"cnn", "resnet50"}
    assert list(unknown.variant[unknown.backbone != "cnn"]) == ["mtl-resnet50-imagenet-conv5"]
    assert set(ROWS.backbone[ROWS.total_params == ""]) == {"cnn"}


def test_it_gives_probabilities_of_each_task(built: Built):
    outputs = built.model(built.photos)
    assert list(outputs) == built.row.tasks.split()
    for task, probabilities in outputs.items():
        assert probabilities.shape == (4, CLASSES[task])
        assert probabilities.dtype == "float32"
        assert np.asarray(probabilities).sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_it_divides_at_one_layer_into_what_is_frozen_and_what_learns(built: Built):
    cut = CUTS.get((built.row.backbone, built.row.trainable))
    assert cut_layer(built.model) == cut
    parts = split_frozen(built.model)
    if cut is None:
        assert parts is None
        return
    frozen, rest = parts
    assert frozen.output.shape == built.model.get_layer(cut).output.shape
    assert frozen.trainable_weights == []
    assert [w.path for w in rest.weights] == [
        w.path for w in built.model.weights if w.path not in {f.path for f in frozen.weights}
    ]
    whole, joined = built.model(built.photos), rest(frozen(built.photos))
    assert_same(joined, whole, tolerance=1e-6)
    # Batch normalisation too: in training as in inference.
    learning = np.asarray(frozen(built.photos, training=True))
    assert np.array_equal(learning, np.asarray(frozen(built.photos, training=False)))


def test_one_step_changes_what_learns_and_nothing_else(built: Built):
    model, generator = built.model, np.random.default_rng(6)
    before = {w.path: w.numpy() for w in model.weights}
    labels = {task: generator.integers(0, CLASSES[task], 4) for task in model.output}
    with tf.GradientTape() as tape:
        outputs = model(built.photos, training=True)
        entropy = keras.losses.sparse_categorical_crossentropy
        loss = sum(tf.reduce_mean(entropy(labels[task], outputs[task])) for task in labels)
    gradients = tape.gradient(loss, model.trainable_variables)
    keras.optimizers.Adam().apply(gradients, model.trainable_variables)
    changed = {w.path for w in model.weights if not np.array_equal(w.numpy(), before[w.path])}
    # With the moving statistics of the batch normalisation that learns.
    learning = [layer for layer in model.layers if layer.trainable_weights]
    assert changed == {w.path for layer in learning for w in layer.weights}


def test_it_comes_back_from_disk_with_the_same_predictions(built: Built, tmp_path: Path):
    save_network(built.model, tmp_path / "model.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
    again = load_network(tmp_path / "model.keras")
    assert_same(again(built.photos), built.model(built.photos), tolerance=0)
