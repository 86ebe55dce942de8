"""Searches: the grid as named trainings, and what each of them changes."""

from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from stages.commands import tune
from stages.core.errors import UserError
from stages.core.params import Params, load_params, parse_params
from stages.tuning.searches import combinations, label, training_inputs

AVERAGE = "mtl-mobilenet-average"  # of runs that no search has
COMMITTED = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(COMMITTED)


def test_the_published_searches_have_the_published_sizes_and_best_settings(params: Params):
    published = {name: s for name, s in params.searches.items() if s.published}
    assert {name: len(combinations(params, name)) for name in published} == {
        "stl-gender-head-width": 4,
        "stl-gender-block5": 25,
        "mtl-vgg16-frozen": 25,
        "mtl-vgg16-block5": 16,
        "mtl-resnet50-frozen": 25,
        "mtl-resnet50-conv5": 6,
    }
    for name, search in published.items():
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
        "runs=[mtl-vgg16-imagenet-block5]",
        "averages=[]",
        "train.max_epochs=10",
        "train.subset.train=0.1",
        "train.subset.val=0.05",
        "variants.toml:++mtl-vgg16-imagenet-block5.epochs=10",
        "train.global_batch=0",
        "variants.toml:++mtl-vgg16-imagenet-block5.learning_rate=1e-06",
        "variants.toml:++mtl-vgg16-imagenet-block5.batch_size=16",
    ]
    width = combinations(params, "stl-gender-head-width")[0]
    assert "recipes.stl.head_width=32" in width.changes
    assert "train.global_batch=0" not in width.changes, "batches are not what it varies"
    applied = width.applied(params)
    assert applied.recipes["stl"].head_width == 32
    assert applied.runs == ["stl-vgg16-imagenet-frozen-gender"]
    assert params.recipes["stl"].head_width == 128


def test_another_weights_file_makes_another_training(params: Params):
    assert training_inputs(params.model_copy(deep=True), "mtl-cnn") == training_inputs(
        params, "mtl-cnn"
    )
    files = params.pretrained.model_copy(update={"vgg16_imagenet": "/data/vgg16.h5"})
    other = params.model_copy(update={"pretrained": files})
    assert training_inputs(other, "mtl-cnn") != training_inputs(params, "mtl-cnn")


def test_an_ablation_is_the_variant_as_it_is_and_each_value_alone(params: Params):
    grid = combinations(params, "ablation-vgg16")
    assert grid[0].setting == {}
    assert grid[0].name == "ablation-vgg16-unchanged"
    wanted = params.searches["ablation-vgg16"].grid
    assert [c.setting for c in grid[1:]] == [{k: v} for k, vs in wanted.items() for v in vs]
    by_name = {c.name.removeprefix("ablation-vgg16-"): c for c in grid}
    assert len(by_name) == len(grid)
    variant = "mtl-vgg16-imagenet-tuned"
    block5 = by_name["trainable-block5"].applied(params)
    assert block5.variants[variant].trainable == "block5"
    assert block5.recipes == params.recipes
    recipe = params.variants[variant].recipe
    hard = by_name["label_smoothing-0.0"].applied(params).recipes[recipe].label_smoothing
    assert (hard.age, hard.gender, hard.race) == (0, 0, 0)
    assert by_name["augmentation-none"].applied(params).recipes[recipe].augmentation == "none"


@pytest.mark.parametrize("name", ["ablation-cnn", "ablation-vgg16", "ablation-mobilenet"])
def test_the_ablations_change_each_ingredient_of_the_recipe(params: Params, name: str):
    search = params.searches[name]
    recipe = params.recipes[params.variants[search.variant].recipe].model_dump()
    plain = params.recipes["mtl"].model_dump()
    followers = {"constant_epochs", "decay", "age_sigma"}  # mean nothing by themselves
    ingredients = {key for key in recipe if recipe[key] != plain[key]} - followers
    assert ingredients <= set(search.grid)
    for combination in combinations(params, name)[1:]:
        assert training_inputs(combination.applied(params), search.variant) != training_inputs(
            params, search.variant
        )


def test_what_a_training_follows_from_leaves_out_what_does_not_touch_it(params: Params):
    variant = "mtl-vgg16-imagenet-block5"
    other = params.model_copy(update={"runs": ["mtl-cnn", "mtl-cnn+seed-2"]})
    assert training_inputs(other, variant) == training_inputs(params, variant)
    for combination in combinations(params, "mtl-vgg16-block5"):
        assert training_inputs(combination.applied(params), variant) != training_inputs(
            params, variant
        )
    assert training_inputs(params.model_copy(update={"seed": 7}), variant) != training_inputs(
        params, variant
    )


def test_each_setting_is_trained_with_each_seed(params: Params):
    name, variant = "ablation-mobilenet", "mtl-mobilenet-tuned"
    search = params.searches[name].model_copy(update={"seeds": 3, "grid": {"mixup": [0.0]}})
    several = params.model_copy(update={"searches": {name: search}, "averages": [AVERAGE]})
    found = combinations(several, name)
    runs = [variant, f"{variant}+seed-2", f"{variant}+seed-3"]
    assert [(c.name, c.run) for c in found] == [
        (f"{name}-{setting}{suffix}", run)
        for setting in ("unchanged", "mixup-0.0")
        for suffix, run in zip(("", "-seed-2", "-seed-3"), runs, strict=True)
    ]
    once = combinations(params, name)
    assert found[0] == once[0], "what is finished with one seed counts"
    other = found[4].applied(several)
    assert other.runs == [variant, f"{variant}+seed-2"]
    assert other.recipes["tuned-mobilenet"].mixup == 0.0
    first, second = (training_inputs(c.applied(several), c.run)[0] for c in found[3:5])
    assert second.training.seed == 2
    assert first.training == second.training.model_copy(update={"seed": 1})


def test_a_search_under_another_split_is_another(params: Params):
    name, run = "ablation-mobilenet", "mtl-mobilenet-tuned+seed-3"
    other = params.model_copy(update={"seed": 2})
    assert training_inputs(params, run) != training_inputs(other, run), "seed also splits"
    assert params.searches[name].variant in run


def test_settings_that_do_not_fit_are_told_before_any_is_trained(params: Params):
    large = params.model_copy(
        update={"detect": params.detect.model_copy(update={"size": 200}), "runs": ["mtl-cnn"]}
    )
    with pytest.raises(UserError, match=r"unchanged: does not fit:\n.*input_side: must be 0 or"):
        tune.enqueue(large, None, "ablation-mobilenet")


def test_a_key_that_a_variant_leaves_out_can_be_varied(params: Params, tmp_path: Path):
    grid = {"input_side": [128]}
    search = params.searches["ablation-vgg16"].model_copy(update={"grid": grid})
    varied = combinations(params.model_copy(update={"searches": {"a": search}}), "a")[1]
    lines = [c.removeprefix("variants.toml:") for c in varied.changes if "variants.toml" in c]
    file = tmp_path / "variants.toml"
    file.write_bytes(COMMITTED.with_name("variants.toml").read_bytes())
    apply_overrides(file, lines)
    changed = parse_params(COMMITTED.read_text(), file.read_bytes(), "params.yaml")
    assert changed.variants[search.variant].input_side == 128


def test_no_training_at_a_time_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["tune", "search", "ablation-cnn", "--jobs", "0"])
    with pytest.raises(SystemExit):
        tune.main()
    assert "--jobs must be at least 1" in capsys.readouterr().err
