"""A search's table: rows for all settings, the best, the published one, and the pictures."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from stages.core.params import Params, load_params
from stages.reporting.search_pages import (
    describe_search,
    draw_search,
    search_chart,
    search_markdown,
)
from stages.tuning.search_table import tabulate_changes, tabulate_search
from stages.tuning.searches import combinations

SEARCH = "mtl-resnet50-conv5"
GRID = ["learning_rate", "batch_size"]


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(Path(__file__).parents[2] / "params.yaml")


def _summary(score: float) -> dict[str, object]:
    accuracies = {"age": score, "gender": score, "race": score}
    return {"val_score": score, "val_accuracy": accuracies, "best_epoch": 3, "epochs": 10}


def _table(params: Params, scores: dict[str, float], **states: str) -> pd.DataFrame:
    names = {
        name.removeprefix(f"{SEARCH}-"): name
        for name in (c.name for c in combinations(params, SEARCH))
    }
    return tabulate_search(
        combinations(params, SEARCH),
        {names[n.replace("_", "-")]: s for n, s in states.items()}
        | {names[n]: "finished" for n in scores},
        {names[n]: _summary(score) for n, score in scores.items()},
        params.searches[SEARCH].published,
    )


def test_each_setting_has_a_row_in_the_order_of_the_grid_whatever_its_state(params: Params):
    table = _table(params, {"lr1e-5-b16": 0.7, "lr1e-4-b32": 0.8}, **{"lr1e-6-b16": "failed"})
    assert table["state"].tolist() == [
        *("failed", "not queued", "finished", "not queued", "not queued", "finished")
    ]
    assert table["mark"].tolist() == ["", "", "published", "", "", "best"]
    assert table["val_score"].isna().sum() == 4
    assert table.columns.tolist() == [
        *("experiment", "state", *GRID, "val_score"),
        *("age_val_accuracy", "gender_val_accuracy", "race_val_accuracy"),
        *("best_epoch", "epochs", "mark"),
    ]


def test_the_best_stands_beside_the_published_setting(params: Params):
    table = _table(params, {"lr1e-5-b16": 0.7, "lr1e-4-b32": 0.8}, **{"lr1e-6-b16": "running"})
    assert describe_search(table, params.searches[SEARCH]) == [
        "6 settings: 1 running, 3 not queued, 2 finished",
        "best: learning_rate 1e-4, batch_size 32: 0.8000",
        "published best: learning_rate 1e-5, batch_size 16: here 0.7000, place 2 of 2",
    ]
    same = _table(params, {"lr1e-5-b16": 0.7})
    assert same["mark"].tolist().count("best, published") == 1


def test_a_search_of_which_nothing_is_finished_has_a_table_too(params: Params, tmp_path: Path):
    table = _table(params, {}, **{"lr1e-6-b16": "queued"})
    search = params.searches[SEARCH]
    text = "\n".join(describe_search(table, search))
    assert "best: none yet" in text
    assert "here not finished" in text
    draw_search(table, search, SEARCH, tmp_path / "map")
    assert "| queued" in search_markdown(table, search, SEARCH)


def _ablation(params: Params, scores: dict[str, float], **states: str) -> pd.DataFrame:
    grid = combinations(params, "ablation-cnn")
    names = {c.name.removeprefix("ablation-cnn-"): c.name for c in grid}
    found = {names[name]: _summary(score) for name, score in scores.items()}
    known = dict.fromkeys(found, "finished") | {names[n]: s for n, s in states.items()}
    return tabulate_changes(grid, known, found)


def test_an_ablation_tells_what_each_change_is_worth(params: Params):
    table = _ablation(params, {"unchanged": 0.7, "w128": 0.71, "dropout-0.0": 0.65})
    assert table["change"].iloc[0] == "as it is"
    rows = table.set_index("change")
    assert rows.loc["head_width 128", "difference"] == pytest.approx(0.01)
    assert rows.loc["dropout 0.0", "difference"] == pytest.approx(-0.05)
    assert rows["difference"].notna().sum() == 2
    assert rows["mark"].loc["head_width 128"] == "best"
    text = search_markdown(table, params.searches["ablation-cnn"], "title")
    assert "- as it is: 0.7000\n- best change: head_width 128: +0.0100\n" in text
    assert "| -0.0500 " in text


def test_an_ablation_of_which_little_is_finished_is_drawn_too(params: Params, tmp_path: Path):
    search = params.searches["ablation-cnn"]
    for scores in ({}, {"w128": 0.7}, {"unchanged": 0.7}, {"unchanged": 0.7, "w128": 0.6}):
        table = _ablation(params, scores, **{"dropout-0.0": "failed"})
        draw_search(table, search, "title", tmp_path / "bars")
        with Image.open(tmp_path / "bars") as picture:
            assert picture.format == "PNG"
        expected = "as it is: 0.7000" if "unchanged" in scores else "as it is: not finished"
        assert expected in search_markdown(table, search, "title")


def test_of_equals_the_first_is_the_best(params: Params):
    table = _table(params, {"lr1e-5-b16": 0.8, "lr1e-4-b32": 0.8})
    assert table["mark"].tolist() == ["", "", "best, published", "", "", ""]


def test_the_heat_map_is_a_picture_that_grows_with_the_grid(params: Params, tmp_path: Path):
    sizes = []
    for name in ("stl-gender-head-width", SEARCH, "mtl-vgg16-frozen"):
        grid = combinations(params, name)
        summaries = {c.name: _summary(0.5 + i / 100) for i, c in enumerate(grid)}
        table = tabulate_search(grid, dict.fromkeys(summaries, "finished"), summaries, {})
        path = tmp_path / name
        draw_search(table, params.searches[name], name, path)
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50
            sizes.append(picture.width * picture.height)
    assert sizes == sorted(sizes)


def test_of_several_seeds_a_row_has_mean_and_spread(params: Params, tmp_path: Path):
    changes = {"dropout": [0.0], "head_width": [128], "balance": ["sampling"]}
    search = params.searches["ablation-cnn"].model_copy(update={"seeds": 3, "grid": changes})
    searches = {"ablation-cnn": search}
    grid = combinations(params.model_copy(update={"searches": searches}), "ablation-cnn")
    scores = [0.70, 0.72, 0.71, 0.65, 0.66, 0.67, 0.75]
    summaries = {c.name: _summary(score) for c, score in zip(grid, scores, strict=False)}
    states = dict.fromkeys(summaries, "finished") | {grid[7].name: "failed"}
    table = tabulate_changes(grid, states, summaries)
    assert table.columns.tolist() == [
        *("experiment", "state", "change", "val_score", "spread", "difference"),
        *("age_val_accuracy", "gender_val_accuracy", "race_val_accuracy", "mark"),
    ]
    assert table["state"].tolist() == ["finished", "finished", "partly finished", "not queued"]
    assert table["val_score"].tolist()[:3] == pytest.approx([0.71, 0.66, 0.75])
    assert table["spread"].tolist()[:2] == pytest.approx([0.01, 0.01])
    assert table["spread"].isna().tolist() == [False, False, True, True]
    assert table["difference"].iloc[1] == pytest.approx(-0.05)
    text = search_markdown(table, search, "title")
    assert "| 0.6600      | 0.0100   | -0.0500 " in text
    assert "means of 3 seeds; spread: the score's standard deviation." in text
    assert "One training each" not in text
    draw_search(table, search, "title", tmp_path / "bars")
    _, rows, _ = search_chart(table, search)
    error = (2 * 0.01**2 / 3) ** 0.5
    assert rows[["low", "high"]].iloc[0].tolist() == pytest.approx([-0.05 - error, -0.05 + error])
    assert rows["low"].iloc[1] == rows["high"].iloc[1] == pytest.approx(0.04)
