"""The published variants as experiments: each alone, with the repeats that are asked for it."""

from pathlib import Path

from stages.commands.suite import experiments, follows_from
from stages.core.params import Repeats, load_params
from stages.runs.resolve import run_names

PARAMS = Path(__file__).parents[2] / "params.yaml"


def test_an_experiment_repeats_its_variant_only_if_that_one_is_repeated():
    repeats = Repeats(variants=["mtl-cnn"], conditions=["seed-2", "native"])
    params = load_params(PARAMS).model_copy(update={"repeats": repeats})
    one, other = experiments(params, ["mtl-cnn", "mtl-vgg19-imagenet-full"])
    applied = one.applied(params)
    assert run_names(applied) == ["mtl-cnn", "mtl-cnn+seed-2", "mtl-cnn+native"]
    assert follows_from(applied, "mtl-cnn") == follows_from(params, "mtl-cnn")
    assert run_names(other.applied(params)) == ["mtl-vgg19-imagenet-full"]
