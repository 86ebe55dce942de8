"""The capacity plan: a probe of a real network, and the arithmetic on its speeds."""

import shutil
import sys
from pathlib import Path

import keras
import pytest
from specs import network_of

from stages.commands import capacity
from stages.core.params import load_params
from stages.core.variants import NetworkSpec, Training
from stages.learning.fit import Execution
from stages.networks import network
from stages.profiling.capacity import Speed, hours, probe
from stages.runs.resolve import resolve

CLASSES = {"gender": 2}


def recipe(variant: str, **changes: object) -> Training:
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    return resolve(params, variant).training.model_copy(update=changes)


def test_a_frozen_part_is_probed_apart_from_what_learns():
    model = network_of("vgg16", "none", "plain", "unit", CLASSES, 32)
    speed = probe(model, recipe("mtl-vgg16-imagenet-frozen"), Execution(), 1)
    assert speed.frozen is not None
    assert speed.frozen > 0
    assert speed.training > 0
    assert speed.validation > 0
    assert speed.small is None


def test_a_trace_of_some_steps_is_written(tmp_path: Path):
    model = network_of("cnn", "all", "plain", "unit", CLASSES, 32)
    probe(model, recipe("mtl-cnn"), Execution(), 4, tmp_path / "trace")
    (file,) = (tmp_path / "trace").rglob("*.xplane.pb")
    assert file.stat().st_size > 1000


def test_hours_are_images_over_speed_the_frozen_part_once_and_the_rest_each_epoch():
    published = recipe("mtl-cnn", epochs=30)
    found = hours(Speed(10.0, 100.0, 50.0), published, train=3600, val=1800)
    assert found == (pytest.approx(5400 / 10 / 3600), pytest.approx(30 * (36 + 36) / 3600))
    assert hours(Speed(None, 100.0, 50.0), published, 3600, 1800)[0] == 0
    progressive = recipe("mtl-cnn", epochs=30, progressive_epochs=20)
    found = hours(Speed(None, 100.0, 50.0, 300.0, 150.0), progressive, train=3600, val=1800)
    assert found[1] == pytest.approx((10 * (36 + 36) + 20 * (12 + 12)) / 3600)


def test_a_head_of_years_is_probed_too():
    published = load_params(Path(__file__).parents[2] / "params.yaml")
    plan = resolve(published, "mtl-cnn-tuned")
    model = network.build_network(plan.network)
    assert plan.training.progressive_epochs > 0
    speed = probe(model, plan.training, Execution(), 4)
    assert speed.training > 0
    assert speed.small is not None
    assert speed.small > 0


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_every_variant_is_probed_in_the_precision_that_is_told(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    text = (Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")
    changed = text.replace("precision: auto", f"precision: {precision}").replace(
        "  xla:\n  - vgg16\n  - vgg19\n", "  xla: []\n"
    )
    (tmp_path / "params.yaml").write_text(changed, encoding="utf-8")
    shutil.copy(Path(__file__).parents[2] / "variants.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    variants = ["mtl-cnn", "mtl-cnn-ge"]
    monkeypatch.setattr(sys, "argv", ["capacity", "--steps", "1", "--variants", *variants])
    policies = []
    build = network.build_network

    def spy(spec: NetworkSpec) -> keras.Model:
        policies.append(keras.config.dtype_policy().name)
        return build(spec)

    monkeypatch.setattr(network, "build_network", spy)
    before = keras.config.dtype_policy()
    try:
        capacity.main()
    finally:
        keras.config.set_dtype_policy(before)
    assert policies == [precision] * 2
    assert f"on auto, {precision}" in capsys.readouterr().out
