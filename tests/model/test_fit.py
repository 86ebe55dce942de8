"""The recipe: the rate's course, the best epoch, the frozen part computed once."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from specs import network_of

from stages.core.variants import Training
from stages.learning import fit as module
from stages.learning import objective
from stages.learning.checkpoints import Checkpoints
from stages.learning.fit import Data, Examples, caches_features, fit
from stages.learning.optimizer import learning_rate
from stages.networks.network import at_size

CLASSES = {"age": 5, "gender": 2, "race": 5}
WEIGHTS = {"age": 0.4, "gender": 0.1, "race": 0.5}
SIZE = 32
SETTINGS = {
    "seed": 1,
    "learning_rate": 0.001,
    "batch_size": 8,
    "epochs": 2,
    "schedule": "exponential",
    "constant_epochs": 20,
    "decay": 0.01,
    "warmup_epochs": 0.0,
    "patience": 0,
    "clipnorm": 1.0,
    "weight_decay": 0.0,
    "weight_average": 0.0,
    "progressive_epochs": 0,
    "progressive_size": 32,
    "balance": "none",
    "task_weights": WEIGHTS,
    "loss_weights": WEIGHTS,
    "label_smoothing": {"age": 0.0, "gender": 0.0, "race": 0.0},
    "age_sigma": 2.0,
    "age_error_weight": 0.0,
    "conflicting_labels": "own",
    "mixup": 0.0,
    "augmentation": None,
}


def settings_of(**changes: object) -> Training:
    """SETTINGS with some of them changed; images may be smaller than params.yaml admits."""
    size = changes.pop("progressive_size", SIZE)
    training = Training.model_validate(SETTINGS | changes)
    return training.model_copy(update={"progressive_size": size})


def network(
    backbone: str = "cnn", trainable: str = "all", tasks: str = "age gender race"
) -> keras.Model:
    keras.utils.set_random_seed(1)
    classes = {task: CLASSES[task] for task in tasks.split()}
    return network_of(backbone, trainable, "plain", "unit", classes, SIZE)


def _images() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    levels = generator.integers(0, 10, 64)
    noise = generator.integers(0, 56, (64, SIZE, SIZE, 3))
    return levels, (20 * levels[:, None, None, None] + noise).astype(np.uint8)


LEVELS, IMAGES = _images()


def examples(number: int, seed: int, tasks: str = "age gender race") -> Examples:
    """Some of the images, out of order; the labels go with the brightness."""
    rows = np.random.default_rng(seed).permutation(len(IMAGES))[:number]
    return Examples(rows, {t: LEVELS[rows] * CLASSES[t] // 10 for t in tasks.split()})


def nothing(*_: object) -> None:
    pass


@pytest.fixture
def eager() -> Iterator[None]:
    """Without compiled functions: for a few steps, compiling them costs more than it saves."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


Fit = Callable[..., dict[str, float]]


@pytest.fixture
def trained(tmp_path: Path) -> Fit:
    """Train a network on a few images; anything can be changed by name."""

    def call(model: keras.Model, seed: int = 1, log=nothing, **changes: object):
        tasks = [task for task in model.output if task in CLASSES]
        train = changes.pop("train", examples(16, 1, " ".join(tasks)))
        val = changes.pop("val", examples(8, 2, " ".join(tasks)))
        checkpoints = Checkpoints(tmp_path / "checkpoints", "it")
        summary = fit(
            model,
            Data(IMAGES, train, val),
            settings_of(**{"seed": seed} | changes),
            lambda frozen: frozen.predict(IMAGES, batch_size=6, verbose=0),
            checkpoints,
            log,
        )
        checkpoints.clear()
        return summary

    return call


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def largest_difference(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))


# --- the rate ----------------------------------------------------------------------------


def test_the_rate_is_constant_and_then_falls_by_the_same_factor():
    settings = settings_of(constant_epochs=3, decay=0.5)
    rates = [learning_rate(settings, epoch) for epoch in range(6)]
    assert rates[:3] == [0.001] * 3
    assert rates[3:] == pytest.approx([0.001 * math.exp(-0.5 * n) for n in (1, 2, 3)])


@pytest.mark.usefixtures("eager")
def test_the_rate_that_is_used_is_the_one_of_the_epoch(trained: Fit):
    used = []
    settings = {"constant_epochs": 1, "decay": 0.5, "epochs": 3}
    model = network(tasks="gender")
    trained(model, log=lambda _, f: used.append(f["train/learning_rate"]), **settings)
    assert used == pytest.approx([0.001, 0.001 * math.exp(-0.5), 0.001 * math.exp(-1)])


# --- the best epoch ----------------------------------------------------------------------


@pytest.mark.usefixtures("eager")
def test_the_network_ends_with_the_weights_of_its_best_epoch(trained: Fit):
    model, val, second = network(), examples(8, 2), 1
    weights: list[list[np.ndarray]] = []
    settings = {"epochs": 4, "learning_rate": 0.003}
    trained(model, log=lambda *_: weights.append(model.get_weights()), **settings)
    # The same again, validated by what the second epoch predicted: it is the best one then.
    model.set_weights(weights[second])
    predicted = model(IMAGES[val.rows])
    labels = {task: np.asarray(values).argmax(axis=1) for task, values in predicted.items()}
    model, told = network(), []
    summary = trained(
        model,
        log=lambda *epoch: told.append(epoch),
        val=Examples(val.rows, labels),
        **settings,
    )
    assert [epoch for epoch, _ in told] == [0, 1, 2, 3]
    scores = [figures["val/score"] for _, figures in told]
    assert scores == pytest.approx(
        [sum(w * f[f"val/{task}_accuracy"] for task, w in WEIGHTS.items()) for _, f in told]
    )
    assert scores[second] == pytest.approx(1)
    assert max(scores[:second] + scores[second + 1 :]) < 0.99, "another epoch is as good"
    assert (summary["best_epoch"], summary["epochs"]) == (2, 4)
    assert summary["val_score"] == pytest.approx(1)
    assert same(model.get_weights(), weights[second])


@pytest.mark.usefixtures("eager")
def test_the_score_is_the_mean_of_the_accuracies_whatever_the_weights_sum_to(trained: Fit):
    figures: dict[str, float] = {}
    weights = {"age": 3.0, "gender": 0.0, "race": 1.0}
    trained(network(), log=lambda _, f: figures.update(f), epochs=1, task_weights=weights)
    wanted = (3 * figures["val/age_accuracy"] + figures["val/race_accuracy"]) / 4
    assert figures["val/score"] == pytest.approx(wanted)


@pytest.mark.usefixtures("eager")
def test_a_task_of_loss_weight_0_does_not_learn(trained: Fit):
    model = network()
    before = model.get_layer("gender").get_weights()
    trained(model, loss_weights={"age": 0.5, "gender": 0.0, "race": 0.5})
    assert same(model.get_layer("gender").get_weights(), before)


@pytest.mark.usefixtures("eager")
def test_a_network_of_one_task_chooses_by_its_own_accuracy(trained: Fit):
    told: list[dict[str, float]] = []
    summary = trained(network(tasks="gender"), log=lambda _, f: told.append(f), epochs=3)
    accuracies = [figures["val/gender_accuracy"] for figures in told]
    assert [figures["val/score"] for figures in told] == pytest.approx(accuracies)
    assert summary["best_epoch"] == int(np.argmax(accuracies)) + 1
    assert 0 <= told[0]["train/gender_accuracy"] <= 1


# --- the frozen part ---------------------------------------------------------------------


@pytest.mark.usefixtures("eager")
def test_learning_from_stored_features_is_learning_with_the_whole_network(
    trained: Fit, monkeypatch: pytest.MonkeyPatch
):
    changes = {"learning_rate": 0.0001, "epochs": 1}
    stored, whole = network("vgg16", "block5"), network("vgg16", "block5")
    start = stored.get_weights()
    assert same(whole.get_weights(), start)
    first = trained(stored, **changes)
    monkeypatch.setattr(module, "split_frozen", lambda _: None)
    assert trained(whole, **changes)["val_score"] == pytest.approx(first["val_score"])
    learnt = largest_difference(stored.get_weights(), start)
    assert largest_difference(stored.get_weights(), whole.get_weights()) < learnt / 50


# --- reproducibility ---------------------------------------------------------------------


@pytest.mark.usefixtures("eager")
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(trained: Fit):
    first, again, other = (network(tasks="gender") for _ in range(3))
    for model, seed in ((first, 5), (again, 5), (other, 6)):
        trained(model, seed, epochs=1)
    assert same(first.get_weights(), again.get_weights())
    assert not same(first.get_weights(), other.get_weights())


@pytest.mark.usefixtures("eager")
def test_a_clipnorm_of_0_is_no_clipping(trained: Fit):
    start, free, wide, narrow = (network(tasks="gender") for _ in range(4))
    # Narrower than Adam's epsilon, clipped gradients hardly move anything.
    for model, clipnorm in ((free, 0.0), (wide, 1e9), (narrow, 1e-12)):
        trained(model, clipnorm=clipnorm, epochs=1)
    heads = [layer.name for layer in start.layers if isinstance(layer, keras.layers.Dense)]
    for name in heads:
        began, kept = (model.get_layer(name).get_weights() for model in (start, narrow))
        unclipped, barely = (m.get_layer(name).get_weights() for m in (free, wide))
        assert largest_difference(unclipped, barely) < 1e-5
        assert largest_difference(began, unclipped) > 1e-4
        assert largest_difference(began, kept) < 1e-6


# --- beyond the published recipes --------------------------------------------------------


def test_the_cosine_rises_over_the_warm_up_and_ends_at_0():
    changes = {"schedule": "cosine", "warmup_epochs": 0.5, "epochs": 4, "learning_rate": 0.002}
    settings = settings_of(**changes)
    assert learning_rate(settings, 0) == 0
    assert learning_rate(settings, 0.25) == pytest.approx(0.001)
    assert learning_rate(settings, 0.5) == pytest.approx(0.002)
    assert learning_rate(settings, 2.25) == pytest.approx(0.001)
    assert learning_rate(settings, 4) == pytest.approx(0)


@pytest.mark.usefixtures("eager")
def test_it_ends_when_the_score_has_not_risen_for_as_long_as_patience_allows(trained: Fit):
    told: list[dict[str, float]] = []
    # A rate too small to change any prediction: the first epoch stays the best one.
    changes = {"learning_rate": 1e-9, "epochs": 9, "patience": 2, "clipnorm": 0.0}
    model = network("vgg16", "none", "gender")
    summary = trained(model, log=lambda _, f: told.append(f), **changes)
    assert len({figures["val/score"] for figures in told}) == 1
    assert (summary["best_epoch"], summary["epochs"], len(told)) == (1, 3, 3)


@pytest.mark.usefixtures("eager")
def test_patience_counts_from_the_first_epoch_at_full_size(trained: Fit):
    changes = {"learning_rate": 1e-9, "epochs": 9, "patience": 2, "clipnorm": 0.0}
    model = network(tasks="gender")
    summary = trained(model, progressive_epochs=4, progressive_size=16, **changes)
    assert (summary["best_epoch"], summary["epochs"]) == (5, 7)


def test_a_frozen_part_is_computed_once_only_where_it_sees_the_same_pixels():
    assert caches_features(settings_of())
    changes = {"augmentation": AUGMENTED}, {"mixup": 0.4}, {"progressive_epochs": 1}
    assert not any(caches_features(settings_of(**each)) for each in changes)


AUGMENTED = {
    "flip": True,
    "rotation": 20.0,
    "shift": 0.1,
    "zoom": 0.1,
    "brightness": 0.2,
    "contrast": 0.3,
    "saturation": 0.3,
    "hue": 0.05,
    "greyscale": 0.1,
    "erasing": 0.2,
}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    "changes",
    [
        {"balance": "class-weights"},
        {"balance": "sampling"},
        {"label_smoothing": {"age": 0.3, "gender": 0.3, "race": 0.3}},
        {"augmentation": AUGMENTED},
        {"weight_average": 0.9},
        {"weight_decay": 0.1},
        {"mixup": 0.4},
        {"progressive_epochs": 1, "progressive_size": 16},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_each_setting_changes_what_is_learnt_and_repeats_with_the_seed(
    trained: Fit, changes: dict[str, object]
):
    plain, first, again = network(), network(), network()
    few = {"epochs": 1, "train": examples(10, 1), "val": examples(4, 2)}
    trained(plain, **few)
    for model in (first, again):
        trained(model, **few, **changes)
    assert same(first.get_weights(), again.get_weights())
    assert not same(first.get_weights(), plain.get_weights())


@pytest.mark.usefixtures("eager")
def test_the_averaged_weights_are_what_is_validated_and_kept(trained: Fit):
    # With a momentum near 1 the corrected average of the two steps is their mean.
    first, both, averaged = (network(tasks="gender") for _ in range(3))
    start = first.get_layer("gender_hidden").kernel.numpy()
    changes = {"learning_rate": 0.01, "epochs": 1}
    trained(first, train=examples(8, 1, "gender"), **changes)
    trained(both, **changes)
    trained(averaged, weight_average=0.9999, **changes)
    moved = [
        np.abs(m.get_layer("gender_hidden").kernel.numpy() - start).max()
        for m in (first, both, averaged)
    ]
    assert moved == pytest.approx([0.01, 0.02, 0.015], rel=0.01)


@pytest.mark.usefixtures("eager")
def test_the_first_epochs_learn_from_and_are_validated_on_small_images(
    trained: Fit, monkeypatch: pytest.MonkeyPatch
):
    small: list[tuple[int, ...]] = []
    twin_at = objective.at_size

    def at_size(model: keras.Model, side: int) -> Callable[..., object]:
        twin = twin_at(model, side)

        def call(images: tf.Tensor, training: bool) -> object:
            small.append((int(training), *images.shape))
            return twin(images, training=training)

        return call

    monkeypatch.setattr(objective, "at_size", at_size)
    model = network()
    before = model.get_weights()
    seen: list[int] = []
    trained(
        model,
        log=lambda *_: seen.append(len(small)),
        epochs=5,
        progressive_epochs=2,
        progressive_size=16,
    )
    assert seen == [3, 6, 6, 6, 6], "two steps and a validation in two of five epochs"
    assert small[:3] == [(1, 8, 16, 16, 3), (1, 8, 16, 16, 3), (0, 8, 16, 16, 3)]
    assert not same(before, model.get_weights())


@pytest.mark.usefixtures("eager")
def test_the_best_epoch_is_one_at_full_size(trained: Fit, monkeypatch: pytest.MonkeyPatch):
    scores = iter([0.9, 0.2, 0.3, 0.3])
    at_end = module._Epochs.on_test_end

    def scored(self: object, logs: dict[str, float]) -> None:
        score = next(scores)
        at_end(self, {name: score if "accuracy" in name else v for name, v in logs.items()})

    monkeypatch.setattr(module._Epochs, "on_test_end", scored)
    summary = trained(network(), epochs=4, progressive_epochs=1, progressive_size=16)
    assert (summary["best_epoch"], summary["val_score"]) == (3, pytest.approx(0.3))


def test_the_twin_for_small_images_has_the_same_weights_and_sees_what_the_network_sees():
    built = ("vgg16", "block5", "ge_am", "native", CLASSES)
    model = network_of(*built, 64, weights="imagenet")
    twin = at_size(model, 32)
    assert all(a is b for a, b in zip(twin.weights, model.weights, strict=True))
    assert [w.path for w in twin.trainable_weights] == [w.path for w in model.trainable_weights]
    apart = network_of(*built, 32, weights="imagenet")
    apart.set_weights(model.get_weights())
    found, wanted = twin(IMAGES[:4]), apart(IMAGES[:4])
    for task in CLASSES:
        np.testing.assert_allclose(found[task], wanted[task], rtol=1e-6)


# --- going on after a kill ---------------------------------------------------------------


class Killed(BaseException):
    pass


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("trainable", ["all", "none"])
def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(
    trained: Fit, monkeypatch: pytest.MonkeyPatch, trainable: str
):
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    backbone = "cnn" if trainable == "all" else "vgg16"
    changes = {
        "epochs": 3,
        "augmentation": AUGMENTED if trainable == "all" else None,
        "progressive_epochs": 2 if trainable == "all" else 0,  # one before the kill, one after
        "progressive_size": 16,
        "schedule": "cosine",
        "weight_average": 0.5,
        "learning_rate": 0.003,
    }
    told: list[tuple[int, dict[str, float]]] = []
    whole = network(backbone, trainable)
    undisturbed = trained(whole, log=lambda *epoch: told.append(epoch), **changes)

    def kill(epoch: int, _: dict[str, float]) -> None:
        if epoch == 1:  # the checkpoint of the first epoch is there
            raise Killed

    with pytest.raises(Killed):
        trained(network(backbone, trainable), log=kill, **changes)
    again: list[tuple[int, dict[str, float]]] = []
    resumed = network(backbone, trainable)
    summary = trained(resumed, log=lambda *epoch: again.append(epoch), **changes)
    assert same(resumed.get_weights(), whole.get_weights())
    assert again == told
    assert summary["best_epoch"] == undisturbed["best_epoch"]
    assert summary["val_score"] == undisturbed["val_score"]


def test_the_checkpoint_of_another_training_is_not_used(tmp_path: Path):
    model = network(tasks="gender")
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    Checkpoints(tmp_path, "one").save(model, model.get_weights(), [{"val/score": 0.5}])
    assert Checkpoints(tmp_path, "other").restore(model) is None
    kept = Checkpoints(tmp_path, "one").restore(model)
    assert kept is not None
    best, history = kept
    assert same(best, model.get_weights())
    assert history == [{"val/score": 0.5}]
