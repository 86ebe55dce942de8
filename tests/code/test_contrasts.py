"""Contrasts: differences over seeds, corrected among themselves, and what is called alike."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn import Draw
from statsmodels.stats.multitest import multipletests
from workspace import BLOCK5, GENDER, inside

from stages import compare
from stages.comparison import contrasts
from stages.comparison.contrasts import COLUMNS, contrast_tests
from stages.core.errors import UserError
from stages.core.params import load_params, parse_params
from stages.core.variants import Contrast
from stages.evaluation.predictions import Predictions

TOP = Path(__file__).parents[2]
ALONE = np.arange(2000)
NAMED = {
    "mtl - stl": Contrast(a=["mtl"], b=["age", "race"]),
    "mtl - old": Contrast(a=["mtl"], b=["old"]),
}


def outcome(runs: dict[str, Predictions], equivalence: float = 0.01) -> pd.DataFrame:
    return contrast_tests(NAMED, runs, ALONE, 0.95, equivalence)


@pytest.fixture
def runs(draw: Draw) -> dict[str, Predictions]:
    """Two seeds of a network of three tasks, of one of one task, and of an older, worse network."""
    return {
        "mtl": draw(2000, seed=1, skill=1.5),
        "mtl+seed-2": draw(2000, seed=1, skill=1.51),
        "age": draw(2000, seed=1, skill=1.52, tasks=["age"]),
        "age+seed-2": draw(2000, seed=1, skill=1.48, tasks=["age"]),
        "old": draw(2000, seed=1, skill=1.0),
        "old+seed-2": draw(2000, seed=1, skill=1.01),
    }


def test_a_row_for_each_task_that_both_sides_have_over_all_seeds(runs: dict[str, Predictions]):
    table = outcome(runs)
    assert list(table.columns) == COLUMNS
    keys = table[["contrast", "task", "seeds_a", "seeds_b"]].to_numpy().tolist()
    assert keys == [
        ["mtl - stl", "age", 2, 2],
        *(["mtl - old", task, 2, 2] for task in ("age", "gender", "race")),
    ]
    a, b = (
        np.mean([runs[run].right("age").mean() for run in (name, f"{name}+seed-2")])
        for name in ("mtl", "age")
    )
    first = table.iloc[0]
    assert (first["accuracy_a"], first["accuracy_b"]) == pytest.approx((a, b))
    assert first["difference"] == pytest.approx(a - b)
    assert (table["low"] < table["difference"]).all()
    assert (table["difference"] < table["high"]).all()
    assert table["p_holm"].tolist() == pytest.approx(multipletests(table["p"], method="holm")[1])


def test_the_verdicts_say_what_is_better_alike_or_open(runs: dict[str, Predictions]):
    assert outcome(runs)["verdict"].tolist() == ["open", "better", "better", "better"]
    assert outcome(runs, equivalence=0.2)["verdict"][0] == "equivalent"
    turned = {"old": runs["mtl"], "mtl": runs["old"]}
    turned |= {"old+seed-2": runs["mtl+seed-2"], "mtl+seed-2": runs["old+seed-2"]}
    assert set(outcome(turned)["verdict"]) == {"worse"}


def test_one_seed_decides_nothing(runs: dict[str, Predictions]):
    del runs["old+seed-2"]
    table = outcome(runs, equivalence=0.2)
    assert table["verdict"].tolist() == ["equivalent"] + ["one seed"] * 3
    assert table["p"].isna().tolist() == table["p_holm"].isna().tolist() == [False] + [True] * 3
    assert table["p_holm"][0] == table["p"][0], "corrected for what is tested alone"


def test_seeds_that_differ_widen_the_interval(draw: Draw, runs: dict[str, Predictions]):
    alike = outcome(runs)
    runs["mtl+seed-2"] = draw(2000, seed=1, skill=0.7)
    apart = outcome(runs)
    assert ((apart["high"] - apart["low"]) > 1.5 * (alike["high"] - alike["low"])).all()


def test_contrasts_without_runs_have_no_row(runs: dict[str, Predictions]):
    table = outcome({"mtl": runs["mtl"]})
    assert table.empty
    assert list(table.columns) == COLUMNS


def test_a_contrast_of_an_unknown_variant_is_refused():
    variants = (
        (TOP / "variants.toml").read_text().replace('a = ["mtl-cnn-ge"]', 'a = ["mtl-cnn-g"]')
    )
    with pytest.raises(UserError, match=r"contrasts\.CNN: GE - plain: unknown 'mtl-cnn-g'; did"):
        parse_params((TOP / "params.yaml").read_text(), variants.encode(), "params.yaml")


def test_native_runs_and_other_images_are_no_seeds(reported: Path, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(reported, folder)
    path = folder / "params.yaml"
    native, average = f"{BLOCK5}+native", "of-a-fold"
    text = path.read_text().replace(f"- {BLOCK5}\n", f"- {BLOCK5}\n- {native}\n", 1)
    path.write_text(text.replace("averages: []", f"averages: [{average}]"))
    with (folder / "variants.toml").open("a") as file:
        file.write(f'{average} = {{members = ["{BLOCK5}+fold-0"], flip = false}}\n')
    data = folder / "data/predictions"
    shutil.copy(data / "mtl-cnn-ge-gm.csv", data / f"{native}.csv")
    shutil.copy(data / f"{BLOCK5}+fold-0.csv", data / f"{average}.csv")
    before = pd.read_csv(folder / "data/comparison/contrasts.csv")
    assert len(before), "there is a contrast to look at"
    with inside(folder):
        params = load_params()
        compare.compare_pairs(params, [BLOCK5, native, GENDER, average])
        after = pd.read_csv("data/comparison/contrasts.csv")
    pd.testing.assert_frame_equal(after, before)


def test_the_interval_holds_the_difference_as_often_as_it_says():
    """Images and seeds drawn anew 400 times: 95 % of the intervals of a true difference hold it."""
    generator, confidence, true, hits = np.random.default_rng(1), 0.95, 0.0, 0
    groups = np.repeat(np.arange(300), 2)
    for _ in range(400):
        ease = np.repeat(generator.normal(size=300), 2)  # copies are as hard as each other
        sides = []
        for _ in range(2):
            skill = generator.normal(0.8, 0.15, size=(3, 1))
            sides.append((ease + skill + generator.normal(0, 0.5, (3, 600)) > 0).astype(float))
        _, low, high, _ = contrasts._compare(*sides, groups, confidence)
        hits += low <= true <= high
    assert 0.94 <= hits / 400 <= 0.995
