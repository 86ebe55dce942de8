"""The capacity plan: a probe of a real network, and the arithmetic on its speeds."""

from pathlib import Path

import pytest

from stages.learning.capacity import Hours, Speed, hours, probe
from stages.learning.network import build_network
from stages.learning.recipe import Execution, Recipe
from stages.workspace.params import load_params
from stages.workspace.plans import plan_run

CLASSES = {"gender": 2}


def recipe(variant: str, **changes: object) -> Recipe:
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    return Recipe(**plan_run(params, variant).recipe | changes)


def test_a_frozen_part_is_probed_apart_from_what_learns():
    model = build_network("vgg16", "none", "plain", "unit", CLASSES, 32)
    speed = probe(model, CLASSES, recipe("mtl-vgg16-imagenet-frozen"), Execution(), 1, 1)
    assert speed.frozen is not None
    assert speed.frozen > 0
    assert speed.training > 0
    assert speed.validation > 0


def test_hours_are_images_over_speed_the_frozen_part_once_and_the_rest_each_epoch():
    published = recipe("mtl-cnn", epochs=30)
    found = hours(Speed(10.0, 100.0, 50.0), published, train=3600, val=1800)
    assert found == Hours(pytest.approx(5400 / 10 / 3600), pytest.approx(30 * (36 + 36) / 3600))
    assert hours(Speed(None, 100.0, 50.0), published, 3600, 1800).frozen == 0
