"""The MobileNet that learnt faces: read from its file, normalisation, and the side it sees."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from specs import network_of

from stages.acquisition.portraits import draw_portrait
from stages.core.errors import UserError
from stages.formats.keras_h5 import SHAPES
from stages.learning.normalisation import unfold
from stages.networks.network import at_size, cut_layer, load_network, save_network
from stages.weights import vggface2
from stages.weights.registry import BACKBONES, obtain

CLASSES = {"age": 5, "gender": 2, "race": 5}
WEIGHTS = BACKBONES["mobilenet", "vggface2"]
SIDE = 64


@pytest.fixture(scope="session")
def portraits() -> np.ndarray:
    generator = np.random.default_rng(1)
    return np.stack(
        [draw_portrait(10 + i, i % 2, i % 5, generator)[50:150, 50:150] for i in range(48)]
    )


@pytest.fixture(scope="session")
def weights(vggface2_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return obtain(WEIGHTS, tmp_path_factory.mktemp("vggface2"), str(vggface2_bin), "the test")


def network(weights: Path | None, trainable: str = "all", heads: str = "plain") -> keras.Model:
    keras.utils.set_random_seed(1)
    structure = ("mobilenet", trainable, heads, "native", CLASSES, 100, weights)
    return network_of(*structure, weights="vggface2", input_side=SIDE)


def pooled(model: keras.Model, images: np.ndarray) -> np.ndarray:
    part = keras.Model(model.input, model.get_layer("pooled").output)
    return np.asarray(part(images))


def test_the_folded_file_becomes_an_h5_file_whose_digest_is_pinned(vggface2_bin, tmp_path: Path):
    folder = obtain(WEIGHTS, tmp_path, str(vggface2_bin.parent), "the test")
    assert obtain(WEIGHTS, tmp_path, None, "the test") == folder, "it is not fetched again"
    layers = vggface2.read_folded(vggface2_bin.read_bytes())
    assert {n: tuple(a.shape for a in arrays) for n, arrays in layers.items()} == dict(
        SHAPES["mobilenet"]
    )


def test_a_file_with_one_other_byte_is_refused(vggface2_bin: Path, tmp_path: Path):
    content = bytearray(vggface2_bin.read_bytes())
    content[-1] ^= 1
    (tmp_path / vggface2.BIN).write_bytes(content)
    with pytest.raises(UserError, match="SHA-256 is not b0ea2cc"):
        obtain(WEIGHTS, tmp_path / "to", str(tmp_path), "the test")


def test_the_features_are_those_of_the_published_graph(vggface2_bin: Path, portraits, weights):
    """Computed here by TensorFlow's operations, one after the other, as the graph names them."""
    layers = vggface2.read_folded(vggface2_bin.read_bytes())
    x = tf.image.resize(portraits[:4, :, :, ::-1].astype(np.float32), (SIDE, SIDE), "bicubic")
    x = x - [103.939, 116.779, 123.68]
    strides = {"conv1": 2, "conv_dw_2": 2, "conv_dw_4": 2, "conv_dw_6": 2, "conv_dw_12": 2}
    for name, arrays in layers.items():
        if name.endswith("_bn"):
            x = tf.nn.relu6(x * arrays[0] + arrays[1])
            continue
        step = [1, strides.get(name, 1), strides.get(name, 1), 1]
        apply = tf.nn.depthwise_conv2d if name.startswith("conv_dw") else tf.nn.conv2d
        x = apply(x, arrays[0], step, "SAME")
    wanted = tf.reduce_mean(x, axis=(1, 2)).numpy()
    assert wanted.max() > 1
    assert pooled(network(weights), portraits[:4]) == pytest.approx(wanted, abs=1e-4)


def test_unfolding_gives_real_moments_and_leaves_the_outputs(weights: Path, portraits):
    model = network(weights)
    before, outputs = pooled(model, portraits[40:]), model(portraits[40:])
    unfold(model, portraits[:40])
    assert pooled(model, portraits[40:]) == pytest.approx(before, abs=1e-4)
    for task, values in model(portraits[40:]).items():
        assert np.asarray(values) == pytest.approx(np.asarray(outputs[task]), abs=1e-4)
    norm = model.get_layer("conv_pw_5_bn")
    inputs = np.asarray(keras.Model(model.input, norm.input)(portraits[:40]))
    assert norm.moving_mean.numpy() == pytest.approx(inputs.mean(axis=(0, 1, 2)), abs=1e-3)
    assert norm.moving_variance.numpy() == pytest.approx(inputs.var(axis=(0, 1, 2)), rel=1e-3)


def test_an_unfolded_network_normalises_in_training_as_in_use(weights: Path, portraits):
    """Folded, its moments are those of nothing, and training mode gives other features."""
    model, folded = network(weights), network(weights)
    unfold(model, portraits)
    in_use = pooled(model, portraits)

    def apart(one: keras.Model) -> float:
        part = keras.Model(one.input, one.get_layer("pooled").output)
        learning = np.asarray(part(portraits, training=True))
        return float(np.abs(learning - in_use).mean() / in_use.mean())

    assert apart(model) < 0.05
    assert apart(folded) > 0.3


def test_unfolding_a_network_without_normalisation_changes_nothing():
    model = network_of("vgg16", "none", "plain", "unit", CLASSES, 32)
    before = model.get_weights()
    unfold(model, np.zeros((2, 32, 32, 3), np.uint8))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("side", [128, 160])
def test_images_are_enlarged_inside_as_tensorflow_resizes_them(side: int, portraits):
    model = network_of("cnn", "all", "plain", "unit", CLASSES, 100, input_side=side)
    enlarged = keras.Model(model.input, model.get_layer("enlarged").output)(portraits[:3])
    wanted = tf.image.resize(portraits[:3].astype(np.float32), (side, side), "bicubic")
    np.testing.assert_allclose(enlarged, wanted, atol=1e-3)


@pytest.mark.parametrize("heads", ["plain", "ge", "ge_gm", "ge_am"])
def test_it_stands_wherever_a_backbone_can(heads: str, weights: Path, portraits, tmp_path: Path):
    model = network(weights, "conv_dw_4", heads)
    assert cut_layer(model) == "conv_pad_4"
    save_network(model, tmp_path / "model.keras")
    again = load_network(tmp_path / "model.keras")
    for task, values in model(portraits[:2]).items():
        assert np.array_equal(values, again(portraits[:2])[task])


def test_frozen_it_is_cut_after_its_pooling(weights: Path):
    assert cut_layer(network(weights, "none")) == "pooled"


def test_no_name_depends_on_what_was_built_before():
    first, second = (network(None) for _ in range(2))
    assert [o.name for o in first.operations] == [o.name for o in second.operations]
    with pytest.raises(ValueError, match="columns"):
        at_size(first, 64)
