"""Checkpoints under faults and under two trainings at once."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest

from stages.learning.checkpoints import Checkpoints


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    return model


def history(epochs: int) -> list[dict[str, float]]:
    return [{"val/score": epoch / 10} for epoch in range(epochs)]


def save(kept: Checkpoints, model: keras.Model, epochs: int) -> None:
    model.layers[-1].kernel.assign(np.full((3, 2), epochs, np.float32))
    kept.save(model, model.get_weights(), history(epochs))


@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_a_checkpoint_that_is_not_whole_is_told_of_and_blocks_nothing(
    model: keras.Model, tmp_path: Path, capsys: pytest.CaptureFixture, left: float
):
    kept = Checkpoints(tmp_path, "it")
    save(kept, model, 1)
    whole = tmp_path / "epoch-1.npz"
    save(Checkpoints(tmp_path / "other", "it"), model, 2)
    content = (tmp_path / "other/epoch-2.npz").read_bytes()
    (tmp_path / "epoch-2.npz").write_bytes(content[: int(left * len(content))])
    best, told = kept.restore(model)
    assert told == history(1)
    assert best[0].tolist() == [[1, 1]] * 3
    assert model.layers[-1].kernel.numpy().tolist() == [[1, 1]] * 3
    assert "epoch-2.npz: not whole, removed" in capsys.readouterr().err
    save(kept, model, 2)
    assert kept.restore(model)[1] == history(2)
    assert not whole.exists()


def test_two_trainings_of_one_identity_do_no_harm_to_each_other(
    model: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one, other = Checkpoints(tmp_path, "it"), Checkpoints(tmp_path, "it")
    save(one, model, 1)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    (tmp_path / ".0-epoch-2.npz.partial").touch()  # the first one is writing it
    save(other, model, 1)
    assert [path.name for path in tmp_path.glob("epoch-*")] == ["epoch-1.npz"]
    save(other, model, 2)
    assert (tmp_path / ".0-epoch-2.npz.partial").is_file()
    assert other.restore(model)[1] == history(2)
    one.clear()
    assert not list(tmp_path.glob("epoch-*"))
    assert (tmp_path / ".0-epoch-2.npz.partial").is_file(), "not this one's"
    save(other, model, 3)
    assert other.restore(model)[1] == history(3)


def test_where_a_checkpoint_cannot_be_written_the_last_one_stays(
    model: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kept = Checkpoints(tmp_path, "it")
    save(kept, model, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        save(kept, model, 2)
    monkeypatch.undo()
    assert kept.restore(model)[1] == history(1)
