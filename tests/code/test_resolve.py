"""Plans: what params say of a run, resolved; each suffix changes just what it names."""

from pathlib import Path

import pytest

from stages.core.errors import UserError
from stages.core.files import write_json
from stages.core.params import Params, load_params
from stages.core.paths import RunPaths
from stages.core.run_names import RunName
from stages.runs.resolve import Plan, read_plan, resolve

COMMITTED = Path(__file__).parents[2] / "params.yaml"
BLOCK5 = "mtl-vgg16-imagenet-block5"


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(COMMITTED)


def without_name(plan: Plan) -> dict[str, object]:
    return plan.model_dump(exclude={"run"})


def test_the_published_recipes_are_those_that_were_published(params: Params):
    mtl, stl = (resolve(params, run) for run in (BLOCK5, "stl-vgg16-imagenet-block5-age"))
    assert mtl.training.clipnorm == 1.0
    assert (mtl.training.constant_epochs, mtl.training.decay) == (20, 0.01)
    for weights in (mtl.training.loss_weights, mtl.training.task_weights):
        assert weights.model_dump() == {"age": 0.4, "gender": 0.2, "race": 0.4}
    assert (mtl.training.patience, stl.training.patience) == (0, 5)
    assert (stl.training.clipnorm, stl.training.decay) == (0.0, 0.0)
    assert (stl.training.learning_rate, stl.training.batch_size) == (0.0001, 32)
    for plan in (mtl, stl):
        assert plan.training.augmentation is None
        assert plan.training.balance == "none"
        assert set(plan.training.label_smoothing.model_dump().values()) == {0.0}
        assert plan.network.preprocessing == "unit"
        assert plan.network.dropout == 0
        assert plan.network.head_width == 128
        assert plan.training.progressive_epochs == 0


def test_native_changes_the_preprocessing_and_nothing_else(params: Params):
    plain, native = resolve(params, BLOCK5), resolve(params, f"{BLOCK5}+native")
    assert native.run == f"{BLOCK5}+native"
    network = plain.network.model_copy(update={"preprocessing": "native"})
    assert without_name(native) == without_name(plain.model_copy(update={"network": network}))


def test_a_seed_changes_the_seed_and_nothing_else(params: Params):
    plain, other = resolve(params, BLOCK5), resolve(params, f"{BLOCK5}+seed-7")
    assert (plain.training.seed, other.training.seed) == (params.seed, 7)
    training = plain.training.model_copy(update={"seed": 7})
    assert without_name(other) == without_name(plain.model_copy(update={"training": training}))


@pytest.mark.parametrize("suffix", ["published-split", "fold-2"])
def test_other_lists_change_the_images_and_nothing_else(params: Params, suffix: str):
    plain, other = resolve(params, BLOCK5), resolve(params, f"{BLOCK5}+{suffix}")
    assert without_name(other) == without_name(plain)
    assert (RunName.parse(BLOCK5).split, RunName.parse(other.run).split) == ("honest", suffix)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("mtl-cnn", ("mtl-cnn", False, "honest", None)),
        ("mtl-cnn+native", ("mtl-cnn", True, "honest", None)),
        ("mtl-cnn+fold-12+seed-0", ("mtl-cnn", False, "fold-12", 0)),
        ("a+native+published-split+seed-3", ("a", True, "published-split", 3)),
    ],
)
def test_a_name_is_read_as_its_parts(text: str, parts: tuple[object, ...]):
    name = RunName.parse(text)
    assert (name.text, name.variant, name.native, name.split, name.seed) == (text, *parts)
    assert text == "+".join(filter(None, (name.variant, name.suffix)))


@pytest.mark.parametrize(
    "text", ["a+seed-1+native", "a+seed-01", "a+seed-x", "a+", "+native", "a+fold-0+fold-1", ""]
)
def test_another_form_or_order_is_no_name(text: str):
    with pytest.raises(ValueError, match="is not of the form <variant>"):
        RunName.parse(text)


def test_the_epochs_are_capped_for_all(params: Params):
    assert resolve(params, BLOCK5).training.epochs == params.train.max_epochs < 30
    assert params.variants[BLOCK5].epochs == 30


def test_small_images_are_for_a_fraction_of_the_epochs_that_are_run(params: Params):
    content = params.model_dump(by_alias=True)
    content["recipes"]["tuned-cnn"]["progressive_fraction"] = 0.29
    content["variants"]["mtl-cnn-tuned"]["epochs"] = 100
    for most, small in ((1000, 29), (10, 2)):
        content["train"]["max_epochs"] = most
        plan = resolve(Params.model_validate(content), "mtl-cnn-tuned")
        assert plan.training.progressive_epochs == small


def test_the_epochs_can_be_given_and_all_that_counts_by_them_follows(params: Params):
    training = resolve(params, "mtl-vgg16-imagenet-tuned", epochs=10).training
    assert (training.epochs, training.progressive_epochs) == (10, 5)


def test_a_run_is_read_from_its_plan(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"{BLOCK5}\.json: missing; .* runs of params.yaml"):
        read_plan(BLOCK5)
    write_json(RunPaths(BLOCK5).plan, resolve(params, BLOCK5).model_dump())
    assert read_plan(BLOCK5) == resolve(params, BLOCK5)
    RunPaths(BLOCK5).plan.write_text('{"run": 1}')
    with pytest.raises(UserError, match=rf"{BLOCK5}\.json: run: Input should be a valid string"):
        read_plan(BLOCK5)
