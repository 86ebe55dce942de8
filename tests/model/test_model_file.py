"""Saved networks that strangers changed: refused before Keras reads them."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from specs import network_of

from stages.core.errors import UserError
from stages.formats.untrusted import check_model_file
from stages.learning.checkpoints import Checkpoints
from stages.networks.network import load_network, save_network

Edit = Callable[[dict[str, Any]], None]
BOUNDS = [14, 25, 40, 60, 116]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    save_network(network_of("cnn", "all", "plain", "unit", {"gender": 2}, 32), path)
    return path


def changed(saved: Path, target: Path, config: Edit | None = None, **members: bytes) -> Path:
    """A copy with another configuration, or with other members (a_b stands for a.b)."""
    with zipfile.ZipFile(saved) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    if config is not None:
        content = json.loads(parts["config.json"])
        config(content)
        parts["config.json"] = json.dumps(content).encode()
    parts |= {name.replace("_", "."): data for name, data in members.items()}
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return target


def part(module: str | None, name: str, **config: object) -> Edit:
    """Replace the first layer after the input by something else."""

    def edit(content: dict[str, Any]) -> None:
        layer = content["config"]["layers"][1]
        layer |= {"module": module, "class_name": name, "registered_name": None}
        layer["config"] = {"name": layer["name"], **config}

    return edit


def custom(content: dict[str, Any]) -> None:
    content["config"]["layers"][1]["registered_name"] = "evil>Layer"


def hidden(content: dict[str, Any]) -> None:
    content["config"]["layers"][1]["config"]["x"] = [{"deep": {"class_name": "__lambda__"}}]


@pytest.mark.parametrize(
    "edit",
    [
        part("keras.layers", "Lambda", function={"class_name": "__lambda__", "config": {}}),
        part("keras.layers", "TorchModuleWrapper", output_shape=[1]),
        part("keras.layers", "TFSMLayer", filepath="/tmp"),
        part("keras.layers", "StringLookup", vocabulary="/etc/passwd"),
        part("os", "system", command="true"),
        part("builtins", "eval"),
        part("keras.src.utils.file_utils", "get_file", origin="http://127.0.0.1/x"),
        part(None, "__typespec__"),
        custom,
        hidden,
    ],
)
def test_a_network_with_any_other_part_is_refused_unread(
    edit: Edit, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("keras.saving.load_model", None)  # not even asked
    path = changed(saved, tmp_path / "model.keras", edit)
    with pytest.raises(UserError, match=r"model\.keras: not a network .*names") as caught:
        load_network(path)
    assert "no network of this project has" in str(caught.value)


def test_lambda_layers_are_refused_by_keras_too(saved: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("stages.networks.network.check_model_file", lambda _: None)
    code = {"class_name": "__lambda__", "config": {"code": "4wE=", "defaults": None}}
    path = changed(saved, tmp_path / "m.keras", part("keras.layers", "Lambda", function=code))
    with pytest.raises(UserError, match="not a network"):
        load_network(path)


def weights_elsewhere(saved: Path, secret: Path) -> bytes:
    with zipfile.ZipFile(saved) as archive:
        buffer = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(buffer, "r+") as file:
        found: list[str] = []
        file.visititems(lambda name, x: found.append(name) if isinstance(x, h5py.Dataset) else None)
        shape = file[found[0]].shape
        del file[found[0]]
        file.create_dataset(found[0], shape, "f4", external=[(str(secret), 0, 1 << 20)])
    return buffer.getvalue()


def test_weights_that_lie_in_another_file_are_refused(saved: Path, tmp_path: Path):
    (tmp_path / "secret").write_bytes(bytes(10_000))
    other = weights_elsewhere(saved, tmp_path / "secret")
    path = changed(saved, tmp_path / "m.keras", model_weights_h5=other)
    with pytest.raises(UserError, match="are in another file"):
        load_network(path)


def test_other_files_are_refused_with_one_error(saved: Path, tmp_path: Path):
    whole = saved.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], pickle.dumps("model")):
        (tmp_path / "m.keras").write_bytes(content)
        with pytest.raises(UserError, match=r"m\.keras: not a network"):
            load_network(tmp_path / "m.keras")
    with pytest.raises(UserError, match=r"absent\.keras: not a network .*No such file"):
        load_network(tmp_path / "absent.keras")
    with pytest.raises(UserError, match=r"holds \['\.\./evil"):
        load_network(changed(saved, tmp_path / "m.keras", **{"../evil": b""}))
    for lie in ({"config_json": b"{"}, {"model_weights_h5": b"x"}, {"config_json": b"[" * 10**5}):
        with pytest.raises(UserError, match="not a network"):
            load_network(changed(saved, tmp_path / "m.keras", **lie))


@pytest.mark.parametrize(
    ("provenance", "message"),
    [
        *((text, r"provenance\.json: malformed") for text in (b"{", b"[]", b"null", b"\xff\xfe")),
        (b"[" * 10**5, r"provenance\.json: malformed"),
        (b'{"model.keras": 5}', r"model\.keras: damaged"),
    ],
)
def test_a_network_beside_a_broken_provenance_is_one_error(
    provenance: bytes, message: str, saved: Path, tmp_path: Path
):
    (tmp_path / "model.keras").symlink_to(saved)
    (tmp_path / "provenance.json").write_bytes(provenance)
    with pytest.raises(UserError, match=message):
        load_network(tmp_path / "model.keras")


def test_damaged_weights_are_refused_with_one_error(saved: Path, tmp_path: Path):
    with zipfile.ZipFile(saved) as archive:
        whole = archive.read("model.weights.h5")
    random, path = np.random.default_rng(5), tmp_path / "m.keras"
    refused = 0
    for _ in range(200):
        data = bytearray(whole)
        for place in random.integers(min(len(data), 20_000), size=10):
            data[place] ^= int(random.integers(1, 256))
        changed(saved, path, model_weights_h5=bytes(data))
        try:
            check_model_file(path)
        except ValueError as error:
            refused += str(error).startswith("damaged: ")
    assert refused > 20


def test_a_network_that_keras_stumbles_over_is_refused_with_one_error(
    saved: Path, monkeypatch: pytest.MonkeyPatch
):
    def stumbles(*_: object, **__: object) -> None:
        raise RuntimeError("unable to read")

    monkeypatch.setattr("keras.saving.load_model", stumbles)
    with pytest.raises(UserError, match=r"model\.keras: not a network .*unable to read"):
        load_network(saved)


def test_a_network_that_claims_to_be_encrypted_is_refused_with_one_error(
    saved: Path, tmp_path: Path
):
    data = bytearray(saved.read_bytes())
    place = data.index(b"PK\x01\x02")
    data[place + 8] |= 1
    (tmp_path / "m.keras").write_bytes(data)
    with pytest.raises(UserError, match=r"m\.keras: not a network .*encrypted"):
        load_network(tmp_path / "m.keras")


def test_a_compressed_network_is_refused(saved: Path, tmp_path: Path):
    with (
        zipfile.ZipFile(saved) as source,
        zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(ValueError, match="is compressed"):
        check_model_file(tmp_path / "m.keras")


@pytest.mark.parametrize("backbone", ["cnn", "vgg16", "densenet121"])
def test_every_network_of_the_project_passes(backbone: str, tmp_path: Path):
    start = ("none", "unit") if backbone == "cnn" else ("imagenet", "native")
    classes = {"age": 5, "gender": 2, "race": 5}
    heads: dict[str, Any] = {"dropout": 0.3, "age_head": "years", "age_upper_bounds": BOUNDS}
    model = network_of(backbone, "all", "ge_am", start[1], classes, 32, weights=start[0], **heads)
    save_network(model, tmp_path / "model.keras")
    check_model_file(tmp_path / "model.keras")


def test_a_checkpoint_that_is_a_pickle_is_not_unpickled(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    model = network_of("cnn", "all", "plain", "unit", {"gender": 2}, 32)
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    Checkpoints(tmp_path, "one").save(model, model.get_weights(), [{"val/score": 0.5}])
    (kept,) = tmp_path.glob("epoch-*.npz")
    with np.load(kept) as file:
        about = file["about"]
    np.savez(kept, *[np.array([{"an": "object"}], dtype=object)] * 99, about=about)
    before = model.get_weights()
    assert Checkpoints(tmp_path, "one").restore(model) is None
    assert "allow_pickle=False" in capsys.readouterr().err
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))


def layer_of(content: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(x for x in content["config"]["layers"] if x["class_name"] == kind)


def wider(content: dict[str, Any]) -> None:
    layer_of(content, "Dense")["config"]["units"] = 10**6


def fed_more(content: dict[str, Any]) -> None:
    layer_of(content, "Conv2D")["build_config"]["input_shape"][-1] = 10**6


def padded(content: dict[str, Any]) -> None:
    layer = layer_of(content, "Dense")
    layer["build_config"]["input_shape"][-1] = "a" * 10


def channels_first(content: dict[str, Any]) -> None:
    layer_of(content, "Conv2D")["config"]["data_format"] = "channels_first"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (wider, "declares .* weights, but holds"),
        (fed_more, "declares .* weights, but holds"),
        (padded, "are not sizes of a layer"),
        (channels_first, "channels are not last"),
        (lambda content: content["config"].update(layers={}), "declares 0 weights"),
        (lambda content: content["config"].update(layers=[[]]), "not a .keras file"),
        (lambda content: content.update(config=[]), "not a .keras file"),
        (
            lambda content: content["config"].update(layers=[{"module": [], "class_name": {}}]),
            "not",
        ),
    ],
)
def test_layers_that_do_not_fit_the_weights_are_refused_unread(
    edit: Edit, message: str, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("keras.saving.load_model", None)
    with pytest.raises(UserError, match=rf"model\.keras: not a network .*{message}"):
        load_network(changed(saved, tmp_path / "model.keras", edit))


def outputs_as_a_list(content: dict[str, Any]) -> None:
    content["config"]["output_layers"] = list(content["config"]["output_layers"].values())


def words(content: dict[str, Any]) -> None:
    content["config"]["layers"][0]["config"]["dtype"] = "string"


def larger_images(content: dict[str, Any]) -> None:
    content["config"]["layers"][0]["config"]["batch_shape"] = [None, 10**5, 10**5, 3]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (outputs_as_a_list, "its outputs are not probabilities by task"),
        (words, "its input is of type string, not uint8"),
        (larger_images, "numbers for one image"),
    ],
)
def test_a_network_that_takes_or_gives_something_else_is_refused(
    edit: Edit, message: str, saved: Path, tmp_path: Path
):
    with pytest.raises(UserError, match=rf"model\.keras: not a network .*{message}"):
        load_network(changed(saved, tmp_path / "model.keras", edit))


@pytest.mark.parametrize(
    "how", [{"data": np.zeros(1 << 22, np.float32), "compression": "gzip"}, {"shape": (1 << 25,)}]
)
def test_weights_that_are_small_in_the_file_and_large_in_memory_are_refused(
    how: dict[str, Any], saved: Path, tmp_path: Path
):
    with zipfile.ZipFile(saved) as archive:
        buffer = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(buffer, "r+") as file:
        file.create_dataset("more", dtype="f4", **how)
    path = changed(saved, tmp_path / "m.keras", model_weights_h5=buffer.getvalue())
    with pytest.raises(UserError, match="more declares more bytes than the file holds"):
        load_network(path)
