"""Searches: the grid as named trainings, and what each of them changes."""

from pathlib import Path

import pytest

from stages.workspace.params import Params, load_params
from stages.workspace.searches import basis, combinations, label

COMMITTED = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(COMMITTED)


def test_the_published_searches_have_the_published_sizes_and_best_settings(params: Params):
    assert {name: len(combinations(params, name)) for name in params.searches} == {
        "stl-gender-head-width": 4,
        "stl-gender-block5": 25,
        "mtl-vgg16-frozen": 25,
        "mtl-vgg16-block5": 16,
        "mtl-resnet50-frozen": 25,
        "mtl-resnet50-conv5": 6,
    }
    for name, search in params.searches.items():
        assert search.published in [c.setting for c in combinations(params, name)]
        assert search.epochs == 10


def test_names_tell_the_setting_and_the_last_param_varies_fastest(params: Params):
    names = [c.name for c in combinations(params, "mtl-resnet50-conv5")]
    assert names == [
        f"mtl-resnet50-conv5-lr{rate}-b{size}"
        for rate in ("1e-6", "1e-5", "1e-4")
        for size in (16, 32)
    ]
    assert combinations(params, "stl-gender-head-width")[2].name == "stl-gender-head-width-w128"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-4, "1e-4"),
        (0.00025, "2.5e-4"),
        (0.5, "0.5"),
        (0.0, "0.0"),
        (32, "32"),
        ("years", "years"),
    ],
)
def test_a_value_is_written_with_all_its_digits(value: float | str, text: str):
    assert label(value) == text


def test_a_combination_changes_its_variant_or_the_recipe_that_the_variant_follows(params: Params):
    rate = combinations(params, "mtl-vgg16-block5")[0]
    assert rate.changes == [
        "suite=[mtl-vgg16-imagenet-block5]",
        "train.max_epochs=10",
        "train.subset.train=0.1",
        "train.subset.val=0.05",
        "training.mtl-vgg16-imagenet-block5.epochs=10",
        "training.mtl-vgg16-imagenet-block5.learning_rate=1e-06",
        "training.mtl-vgg16-imagenet-block5.batch_size=16",
    ]
    width = combinations(params, "stl-gender-head-width")[0]
    assert "recipes.stl.head_width=32" in width.changes
    applied = width.applied(params)
    assert applied.recipes["stl"].head_width == 32
    assert applied.suite == ["stl-vgg16-imagenet-frozen-gender"]
    assert params.recipes["stl"].head_width == 128


def test_what_a_training_follows_from_leaves_out_what_does_not_touch_it(params: Params):
    variant = "mtl-vgg16-imagenet-block5"
    other = params.model_copy(update={"suite": ["mtl-cnn"], "repeats": ["native"]})
    assert basis(other, variant) == basis(params, variant)
    for combination in combinations(params, "mtl-vgg16-block5"):
        assert basis(combination.applied(params), variant) != basis(params, variant)
    assert basis(params.model_copy(update={"seed": 7}), variant) != basis(params, variant)
