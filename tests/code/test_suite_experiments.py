"""The published variants as experiments: each with those runs of it that params.yaml lists."""

from pathlib import Path

from stages.commands.suite import evaluation_inputs, experiments
from stages.core.params import load_params

PARAMS = Path(__file__).parents[2] / "params.yaml"


def test_an_experiment_has_the_runs_of_its_variant_that_are_listed():
    runs = ["mtl-cnn-ge", "mtl-cnn+seed-2", "mtl-cnn", "mtl-cnn+native"]
    averages = ["mtl-mobilenet-average"]  # its members are no runs of the experiments
    params = load_params(PARAMS).model_copy(update={"runs": runs, "averages": averages})
    one, other = experiments(params, ["mtl-cnn", "mtl-vgg19-imagenet-full"])
    applied = one.applied(params)
    assert applied.runs == ["mtl-cnn", "mtl-cnn+seed-2", "mtl-cnn+native"]
    assert evaluation_inputs(applied, "mtl-cnn") == evaluation_inputs(params, "mtl-cnn")
    assert other.applied(params).runs == ["mtl-vgg19-imagenet-full"]
