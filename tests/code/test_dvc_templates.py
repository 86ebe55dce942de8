"""The templates of `dvc plots` come from the report's charts, and DVC fills and draws them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import vl_convert
from ruamel.yaml import YAML
from workspace import CNN, SEARCH

from stages.publishing.dvc_templates import FOLDER, templates
from stages.reporting.theme import CATEGORIES

PLOTS = {
    "accuracy_over_cost": ("data/comparison/cost.csv", "tflop", "accuracy"),
    "confusion_by_task": (f"data/evaluation/{CNN}/confusion.csv", "predicted", "actual"),
    "curves_by_variant": ("data/comparison/curves.csv", "epoch", "value"),
    "search": (f"data/tuning/{SEARCH}.csv", "batch_size", "learning_rate"),
}


@pytest.mark.parametrize("name", PLOTS)
def test_the_committed_template_is_the_one_that_is_generated(name: str):
    committed = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert committed == templates()[name]


def test_there_is_no_other_template():
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(templates())


@pytest.fixture(scope="module")
def plots(reported: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `dvc plots diff` makes of the templates: revisions and specification by template."""
    folder = tmp_path_factory.mktemp("plots")
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=folder, check=True)
    shutil.copytree(FOLDER, folder / ".dvc/plots")
    for name, (file, _, _) in PLOTS.items():
        shutil.copy(reported / file, folder / f"{name}.csv")
    cost = "variant,task,epoch,tflop,accuracy\na,age,1,10.0,0.5\na,age,2,20.0,0.6\n"
    (folder / "accuracy_over_cost.csv").write_text(cost)
    shown = [{f"{n}.csv": {"template": n, "x": x, "y": y}} for n, (_, x, y) in PLOTS.items()]
    with (folder / "dvc.yaml").open("w") as file:
        YAML().dump({"plots": shown}, file)
    for command in (["git", "add", "."], ["git", *who, "commit", "-qm", "first"]):
        subprocess.run(command, cwd=folder, check=True)
    diff = [sys.executable, "-m", "dvc", "plots", "diff", "HEAD", "--json"]
    done = subprocess.run(diff, cwd=folder, check=True, capture_output=True, text=True)
    data = json.loads(done.stdout.splitlines()[-1])["data"]
    return {Path(key.split("::")[-1]).stem: plot[0] for key, plot in data.items()}


@pytest.mark.parametrize("name", PLOTS)
def test_dvc_fills_a_template_and_vega_lite_draws_all_revisions(plots: dict[str, Any], name: str):
    spec = plots[name]["content"]
    assert "<DVC_METRIC" not in json.dumps(spec)
    assert {row["rev"] for row in spec["data"]["values"]} == {"HEAD", "workspace"}
    svg = vl_convert.vegalite_to_svg(spec, vl_version="5.8")  # the oldest, near to DVC's
    assert "HEAD" in svg
    assert svg.count("<path") > 10
    assert spec["config"]["range"]["category"] == CATEGORIES["light"]
