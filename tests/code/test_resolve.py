"""Plans: what params say of a variant, resolved; conditions change just what they name."""

from pathlib import Path

import pytest

from stages.core.errors import UserError
from stages.core.files import write_json
from stages.core.params import Params, load_params
from stages.runs.resolve import plan_run, read_run, resolve, stage_name

COMMITTED = Path(__file__).parents[2] / "params.yaml"
BLOCK5 = "mtl-vgg16-imagenet-block5"


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(COMMITTED)


def test_the_published_recipes_are_those_that_were_published(params: Params):
    mtl, stl = plan_run(params, BLOCK5), plan_run(params, "stl-vgg16-imagenet-block5-age")
    assert (mtl.recipe["clipnorm"], mtl.recipe["constant_epochs"], mtl.recipe["decay"]) == (
        1.0,
        20,
        0.01,
    )
    assert mtl.recipe["task_weights"] == {"age": 0.4, "gender": 0.2, "race": 0.4}
    assert (mtl.recipe["patience"], stl.recipe["patience"]) == (0, 5)
    assert (stl.recipe["clipnorm"], stl.recipe["decay"]) == (0.0, 0.0)
    assert (stl.recipe["learning_rate"], stl.recipe["batch_size"]) == (0.0001, 32)
    for run in (mtl, stl):
        assert run.recipe["augmentation"] is None
        assert run.recipe["balance"] == "none"
        assert run.recipe["task_weighting"] == "fixed"
        assert set(run.recipe["label_smoothing"].values()) == {0.0}
        assert run.structure["preprocessing"] == "unit"
        assert run.structure["dropout"] == 0
        assert run.structure["head_width"] == 128
        assert run.recipe["progressive_epochs"] == 0


def test_native_changes_the_preprocessing_and_nothing_else(params: Params):
    plain, native = plan_run(params, BLOCK5), plan_run(params, BLOCK5, "native")
    assert native.name == f"{BLOCK5}+native"
    assert native.structure == plain.structure | {"preprocessing": "native"}
    assert (native.recipe, native.seed) == (plain.recipe, plain.seed)


def test_a_seed_changes_the_seed_and_nothing_else(params: Params):
    plain, other = plan_run(params, BLOCK5), plan_run(params, BLOCK5, "seed-7")
    assert (other.name, other.seed) == (f"{BLOCK5}+seed-7", 7)
    assert (other.structure, other.recipe) == (plain.structure, plain.recipe)


@pytest.mark.parametrize("condition", ["published-split", "fold-2"])
def test_other_lists_change_the_images_and_nothing_else(params: Params, condition: str):
    plain, other = plan_run(params, BLOCK5), plan_run(params, BLOCK5, condition)
    assert (other.name, other.lists) == (
        f"{BLOCK5}+{condition}",
        Path("data/lists") / f"{condition}.csv",
    )
    assert plain.lists == Path("data/lists/honest.csv")
    assert (other.structure, other.recipe, other.seed) == (
        plain.structure,
        plain.recipe,
        plain.seed,
    )


def test_a_run_is_made_in_a_stage_of_its_own():
    assert stage_name("mtl-cnn", "train") == "train@mtl-cnn"
    assert stage_name("mtl-cnn+fold-2", "train") == "repeat@mtl-cnn-fold-2"


def test_the_epochs_are_capped_for_all(params: Params):
    assert plan_run(params, BLOCK5).recipe["epochs"] == params.train.max_epochs < 30
    assert params.training[BLOCK5].epochs == 30


def test_small_images_are_for_a_share_of_the_epochs_that_are_run(params: Params):
    content = params.model_dump(by_alias=True)
    content["recipes"]["tuned-cnn"]["progressive_fraction"] = 0.29
    content["training"]["mtl-cnn-tuned"]["epochs"] = 100
    for most, small in ((1000, 29), (10, 2)):
        content["train"]["max_epochs"] = most
        run = plan_run(Params.model_validate(content), "mtl-cnn-tuned")
        assert run.recipe["progressive_epochs"] == small


def test_the_epochs_can_be_given_and_all_that_counts_by_them_follows(params: Params):
    run = plan_run(params, "mtl-vgg16-imagenet-tuned", epochs=10)
    assert (run.recipe["epochs"], run.recipe["progressive_epochs"]) == (10, 5)


def test_a_run_is_read_from_its_plan(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"{BLOCK5}\.json: missing; run `dvc repro plan`"):
        read_run(params, BLOCK5, None)
    write_json(Path("data/plan") / f"{BLOCK5}.json", resolve(params, BLOCK5))
    assert read_run(params, BLOCK5, None) == plan_run(params, BLOCK5)
    with pytest.raises(UserError, match=f"{BLOCK5} under 'nativ' is not in repeats"):
        read_run(params, BLOCK5, "nativ")
    with pytest.raises(UserError, match="'mtl-vgg19-imagenet-full' is not in suite"):
        read_run(params, "mtl-vgg19-imagenet-full", None)
