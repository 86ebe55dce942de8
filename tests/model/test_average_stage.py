"""Stage average: from the networks of two runs to one that is evaluated like a run."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from stages import average
from stages.core.errors import UserError
from stages.core.files import digest, write_csv, write_json
from stages.core.params import load_params
from stages.core.paths import RunPaths
from stages.networks.network import build_network, load_network, save_network
from stages.runs.resolve import resolve

TOP = Path(__file__).parents[2]
MEMBERS = ["mtl-cnn", "mtl-cnn-ge"]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two untrained networks, as stage train leaves them, and the plan of their average."""
    params = load_params(TOP / "params.yaml")
    for name in ("dvc.yaml", "stages"):
        (tmp_path / name).symlink_to(TOP / name)
    monkeypatch.chdir(tmp_path)
    plans = [resolve(params, run) for run in MEMBERS]
    for number, plan in enumerate(plans):
        paths = RunPaths(plan.run)
        paths.model.mkdir(parents=True)
        keras.utils.set_random_seed(number)
        save_network(build_network(plan.network), paths.network)
        used = {"name": ["a.jpg", f"{number}.jpg"], "used_for": ["train", "val"]}
        write_csv(paths.images, pd.DataFrame(used))
        write_json(paths.training, {"network": digest(paths.network)})
    both = plans[0].model_copy(update={"run": "both", "members": MEMBERS, "flip": True})
    write_json(RunPaths("both").plan, both.model_dump())
    monkeypatch.setattr(sys, "argv", ["average", "both"])


@pytest.mark.usefixtures("workspace")
def test_it_predicts_the_mean_of_its_members_and_lists_their_images():
    average.main()
    paths, members = RunPaths("both"), [RunPaths(run) for run in MEMBERS]
    images = np.random.default_rng(1).integers(0, 256, (2, 100, 100, 3), np.uint8)
    wanted = np.mean(
        [
            load_network(member.network)(view)["race"]
            for member in members
            for view in (images, images[:, :, ::-1])
        ],
        axis=0,
    )
    np.testing.assert_allclose(load_network(paths.network)(images)["race"], wanted, rtol=1e-5)
    assert pd.read_csv(paths.images)["name"].tolist() == ["a.jpg", "0.jpg", "1.jpg"]
    provenance = json.loads(paths.provenance.read_text())
    assert provenance["members"] == {m.run: digest(m.network) for m in members}
    assert provenance["model.keras"] == digest(paths.network)


@pytest.mark.usefixtures("workspace")
def test_a_member_that_is_not_the_trained_one_is_refused():
    network = RunPaths("mtl-cnn-ge").network
    network.write_bytes(network.read_bytes() + b"x")
    with pytest.raises(UserError, match=r"run `dvc repro -f train@mtl-cnn-ge`"):
        average.main()
    assert not RunPaths("both").network.exists()
