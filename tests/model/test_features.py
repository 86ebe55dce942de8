"""The cache of frozen features: right, shared, bounded, and never half-written."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest
from specs import network_of

from stages.learning import features as module
from stages.learning.features import frozen_features
from stages.networks.network import split_frozen

GIB = 2**30


def frozen(
    preprocessing: str = "unit",
    heads: str = "plain",
    seed: int = 1,
    backbone: str = "vgg16",
    trainable: str = "block5",
) -> keras.Model:
    keras.utils.set_random_seed(seed)
    classes = {"age": 5, "gender": 2, "race": 5}
    parts = split_frozen(network_of(backbone, trainable, heads, preprocessing, classes, 32))
    assert parts is not None
    return parts[0]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (20, 32, 32, 3), np.uint8)


def test_features_are_the_frozen_parts_output_in_a_mapped_file(
    images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "BATCH", 6)  # in several goes, the last one smaller
    trunk = frozen()
    found = frozen_features(trunk, images, "digest", tmp_path / "new", GIB)
    assert isinstance(found, np.memmap)
    wanted = trunk.predict(images, verbose=0)
    assert np.asarray(found) == pytest.approx(wanted, abs=1e-6)
    assert wanted.std() > 1e-4
    assert [path.suffix for path in (tmp_path / "new").iterdir()] == [".npy"]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_features_of_a_lower_precision_come_back_as_they_were(
    precision: str, images: np.ndarray, tmp_path: Path
):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{precision}")
    try:
        trunk, whole = frozen(), frozen(trainable="none")
    finally:
        keras.config.set_dtype_policy(before)
    found = frozen_features(trunk, images, "digest", tmp_path, GIB)
    wanted = trunk.predict_on_batch(images)
    assert found.dtype == wanted.dtype == precision
    assert np.array_equal(found, wanted)
    deeper = frozen_features(whole, images, "digest", tmp_path, GIB)
    assert np.array_equal(deeper, whole.predict_on_batch(images))


def test_variants_with_the_same_frozen_part_share_it(
    images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = frozen_features(frozen(), images, "digest", tmp_path, GIB)
    monkeypatch.setattr(module, "_compute", lambda *_: pytest.fail("computed again"))
    again = frozen_features(frozen(heads="ge"), images, "digest", tmp_path, GIB)
    assert np.array_equal(first, again)


@pytest.mark.parametrize(("backbone", "upper"), [("vgg16", "block5"), ("resnet50", "conv5")])
def test_what_lies_deeper_is_computed_from_what_is_there(
    backbone: str,
    upper: str,
    images: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    trunk = frozen(backbone=backbone, trainable=upper)
    nearer = frozen_features(trunk, images, "a", tmp_path, GIB)
    used, compute = [], module._compute

    def noted(rest: keras.Model, inputs: np.ndarray, *others: object) -> np.ndarray:
        used.append(inputs.shape)
        return compute(rest, inputs, *others)

    monkeypatch.setattr(module, "_compute", noted)
    whole = frozen(backbone=backbone, trainable="none")
    deeper = frozen_features(whole, images, "a", tmp_path, GIB)
    assert used == [nearer.shape]
    wanted = whole.predict(images, verbose=0)
    assert np.asarray(deeper) == pytest.approx(wanted, abs=1e-6)
    frozen_features(whole, images, "b", tmp_path, GIB)
    assert used[1:] == [images.shape], "of other images nothing is there"


def test_another_weight_or_image_is_another_file(images: np.ndarray, tmp_path: Path):
    for trunk, digest in ((frozen(), "a"), (frozen(seed=2), "a"), (frozen(), "b")):
        frozen_features(trunk, images, digest, tmp_path, GIB)
    assert len(list(tmp_path.iterdir())) == 3


def test_what_was_not_used_for_the_longest_time_goes_first(images: np.ndarray, tmp_path: Path):
    trunk = frozen()
    size = frozen_features(trunk, images, "a", tmp_path, GIB).nbytes + 128
    (oldest,) = tmp_path.iterdir()
    os.utime(oldest, (1, 1))
    frozen_features(trunk, images, "b", tmp_path, 2 * size)
    assert oldest.exists()
    frozen_features(trunk, images, "c", tmp_path, 2 * size)
    assert not oldest.exists()
    assert len(list(tmp_path.iterdir())) == 2
    frozen_features(trunk, images, "c", tmp_path, 0)
    assert len(list(tmp_path.iterdir())) == 1, "what is asked for stays"


def test_a_broken_computation_leaves_nothing(images: np.ndarray, tmp_path: Path):
    broken = np.stack([images[0]] * 2)[:, :16]  # of another size than the network takes
    with pytest.raises(Exception, match="shape"):
        frozen_features(frozen(), broken, "digest", tmp_path, GIB)
    assert list(tmp_path.iterdir()) == []


def test_another_training_that_makes_room_meanwhile_does_no_harm(
    images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whatever is in the cache goes whenever this training is about to look at it."""
    expected = np.array(frozen_features(frozen(), images, "a", tmp_path / "alone", GIB))

    def clear() -> None:
        for path in tmp_path.glob("*.npy"):
            path.unlink()

    original_utime, original_replace = os.utime, Path.replace

    def utime(path: Path) -> None:
        clear()
        original_utime(path)

    def replace(path: Path, target: Path) -> None:
        original_replace(path, target)
        clear()

    monkeypatch.setattr(os, "utime", utime)
    frozen_features(frozen(), images, "a", tmp_path, 0)
    monkeypatch.setattr(Path, "replace", replace)
    found = frozen_features(frozen(), images, "a", tmp_path, 0)
    np.testing.assert_array_equal(found, expected)
    assert list(tmp_path.glob("*.npy")) == []
