"""The proofs of the benchmarks that learn or predict, on tiny images."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import batches, evaluation, frozen, layers, precision, tasks
from benchmarks.faces import Faces
from benchmarks.training import make_task
from stages.core.errors import UserError
from stages.core.params import load_params

SIZE, IMAGES = 32, 40
PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")


@pytest.fixture(scope="module")
def faces() -> Faces:
    random = np.random.default_rng(1)
    labels = {"age": random.integers(0, 5, IMAGES), "gender": random.integers(0, 2, IMAGES)}
    labels["race"] = random.integers(0, 5, IMAGES)
    crops = random.integers(0, 256, (IMAGES, SIZE, SIZE, 3), np.uint8)
    return Faces(crops, [f"{i}.jpg" for i in range(IMAGES)], labels)


@pytest.fixture
def eager() -> Iterator[None]:
    """Without compiled functions: for a few steps, compiling them costs more than it saves."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def test_slices_and_the_published_chain_deliver_the_same(faces: Faces, tmp_path: Path):
    sides = batches.Sides(faces, tmp_path, batch_size=16)
    assert sides.prove() == [f"pixels and labels of {IMAGES} images identical"]
    assert {sides.deliver(side) for side in (sides.ours, sides.chain, sides.keras)} == {IMAGES}
    sides.labels = sides.labels | {"age": sides.labels["age"][::-1]}
    with pytest.raises(UserError, match="not equal"):
        sides.prove()


@pytest.mark.usefixtures("eager")
def test_the_whole_network_learns_what_ours_learns_from_stored_features(faces: Faces):
    task = make_task(PARAMS, "mtl-vgg16-imagenet-block5", faces, epochs=2, real=False)
    (told,) = frozen.prove_equal(task, xla=False)
    assert told.startswith("weights after one epoch within")


def test_three_networks_say_what_the_one_says(faces: Faces):
    task = make_task(PARAMS, "mtl-cnn", faces, epochs=1)
    together = task.network()
    apart = tasks.single_task_networks(task, together)
    assert tasks.prove_equal(together, apart, faces.crops[:8])
    apart["age"].set_weights([weight + 0.1 for weight in apart["age"].get_weights()])
    with pytest.raises(UserError, match="not equal"):
        tasks.prove_equal(together, apart, faces.crops[:8])


def test_both_precisions_start_alike(faces: Faces):
    task = make_task(PARAMS, "mtl-cnn", faces, epochs=1)
    networks = {name: precision.network(task, name) for name in precision.PRECISIONS}
    assert networks["mixed_bfloat16"].dtype_policy.name == "mixed_bfloat16"
    assert len(precision.prove_equal(networks, faces.crops[:8])) == 2


def test_what_is_scored_is_what_the_network_said(faces: Faces, tmp_path: Path):
    sides = evaluation.Sides(PARAMS, "mtl-cnn", faces, tmp_path)
    sides.evaluate()
    assert sides.prove()
    assert (tmp_path / "details" / "subgroups.csv").is_file()


def test_a_turn_of_the_benchmark_of_precisions_trains(faces: Faces):
    task = make_task(PARAMS, "mtl-cnn", faces, epochs=1)
    network = task.network()
    before = network.get_weights()[0]
    precision.training_step(task, network, steps=1, xla=False)()
    assert not np.array_equal(network.get_weights()[0], before)


def test_layers_as_trainings_compute_them_learn_what_keras_s_learn(faces: Faces):
    task = make_task(PARAMS, "mtl-cnn", faces, epochs=1)
    sides = {"ours": layers.Side(task), "rival": layers.Side(task, layers.keras_layers)}
    assert "loss" in layers.prove_equal(sides, 2)
    for weight in sides["ours"].learner.network.weights:
        weight.assign(weight * 50)
    with pytest.raises(UserError, match="not equal"):
        layers.prove_equal(sides, 1)


def test_an_unknown_variant_is_told(faces: Faces):
    with pytest.raises(UserError, match="unknown variant 'mtl-cn'"):
        make_task(PARAMS, "mtl-cn", faces, epochs=1)
