"""Averages of runs in params.yaml and variants.toml: what is refused, and what their plans are."""

from pathlib import Path

import pytest

from stages.core.errors import UserError
from stages.core.params import Params, load_params
from stages.runs.resolve import resolve

COMMITTED = Path(__file__).parents[2] / "params.yaml"


def load(folder: Path, listed: str, line: str) -> Params:
    text = COMMITTED.read_text().replace("averages: []", f"averages: [{listed}]")
    (folder / "params.yaml").write_text(text)
    variants = COMMITTED.with_name("variants.toml").read_text()
    (folder / "variants.toml").write_text(f"{variants}{line}\n")
    return load_params(folder / "params.yaml")


def test_an_average_is_evaluated_after_the_runs_and_planned_as_its_first_member(tmp_path: Path):
    params = load(tmp_path, "both", 'both = {members = ["mtl-cnn", "mtl-cnn-ge"], flip = true}')
    assert params.evaluated == [*params.runs, "both"]
    assert params.run_variants[-1] == "both"
    plan, first = resolve(params, "both"), resolve(params, "mtl-cnn")
    assert (plan.run, plan.members, plan.flip) == ("both", ["mtl-cnn", "mtl-cnn-ge"], True)
    assert (plan.network, plan.training) == (first.network, first.training)
    assert first.members == []


def test_one_that_is_not_listed_is_not_evaluated(tmp_path: Path):
    params = load(tmp_path, "", 'both = {members = ["mtl-cnn"], flip = false}')
    assert params.evaluated == params.runs


@pytest.mark.parametrize(
    ("listed", "line", "told"),
    [
        ("bth", 'both = {members = ["mtl-cnn"], flip = true}', "did you mean 'both'"),
        ("both", 'both = {members = ["mtl-vgg16-imagenet-full"], flip = true}', "is not in runs"),
        ("both", 'both = {members = ["mtl-cnn", "mtl-cnn"], flip = true}', "lists a run twice"),
        ("both", "both = {members = [], flip = true}", "averages.both.members"),
        ("both, both", 'both = {members = ["mtl-cnn"], flip = true}', "'both' is listed twice"),
        ("both", 'both = {members = ["mtl-cnn"]}', "averages.both.flip: Field required"),
        ("mtl-cnn", 'mtl-cnn = {members = ["mtl-cnn"], flip = true}', "is a variant's name too"),
        ("a+b", '"a+b" = {members = ["mtl-cnn"], flip = true}', "variants.toml: 'a[+]b': a name"),
        ("../a", '"../a" = {members = ["mtl-cnn"], flip = true}', "letters, digits"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(listed, line, told, tmp_path: Path):
    with pytest.raises(UserError, match=told):
        load(tmp_path, listed, line)


OTHERS = ("mtl-cnn+published-split", "mtl-cnn-tuned", "stl-vgg16-imagenet-block5-age")


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (f'{OTHERS[0]}", "mtl-cnn-ge+published-split', "were trained on their test images"),
        (f'mtl-cnn", "{OTHERS[1]}', "differ in their tasks, or in age_head of their recipes"),
        (f'mtl-cnn", "{OTHERS[2]}', "differ in their tasks, or in age_head of their recipes"),
    ],
)
def test_what_cannot_be_averaged_is_refused_before_any_training(other, told, tmp_path: Path):
    load(tmp_path, "", "")
    path = tmp_path / "params.yaml"
    more = "".join(f"- {run}\n" for run in (*OTHERS, "mtl-cnn-ge+published-split"))
    text = path.read_text().replace("- mtl-cnn\n", f"- mtl-cnn\n{more}", 1)
    path.write_text(text.replace("averages: []", "averages: [odd]"))
    with (tmp_path / "variants.toml").open("a") as file:
        file.write(f'odd = {{members = ["{other}"], flip = false}}\n')
    with pytest.raises(UserError, match=f"averages.odd.members: {told}"):
        load_params(path)
