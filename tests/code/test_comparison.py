"""The comparison: declared variants only, published figures beside the measured ones."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from stages.comparison.table import compare, read_published, with_epochs, with_intervals
from stages.core.errors import UserError
from stages.core.run_names import RunName
from stages.reporting.charts import up_to_one
from stages.reporting.comparison_charts import draw_cost, draw_leak
from stages.reporting.comparison_tables import (
    comparison_markdown,
    contrast_table,
    figure_cell,
    noise_markdown,
    print_comparison,
    untrained_markdown,
)

BLOCK5, OWN, GENDER = "mtl-vgg16-imagenet-block5", "mtl-cnn", "stl-vgg16-imagenet-block5-gender"
MEASURED = {
    BLOCK5: {"age": (0.61, 0.58), "gender": (0.92, 0.91), "race": (0.83, 0.75)},
    OWN: {"age": (0.5, 0.4), "gender": (0.8, 0.79), "race": (0.6, 0.5)},
    GENDER: {"gender": (0.93, 0.92)},
}


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    """A metrics folder with those three variants and what else lies in one."""
    for variant, tasks in MEASURED.items():
        content = {t: {"accuracy": a, "macro_f1": f} for t, (a, f) in tasks.items()}
        text = json.dumps({"images": 2371, **content})
        (tmp_path / variant).mkdir()
        (tmp_path / variant / "metrics.json").write_text(text)
    (tmp_path / "left-over").mkdir()
    (tmp_path / "left-over/metrics.json").write_text("not even JSON")
    return tmp_path


def compared(metrics: Path, *runs: str) -> pd.DataFrame:
    """`compare` of the runs of these names."""
    return compare(metrics, [RunName.parse(run) for run in runs], read_published("local"))


def test_measured_and_published_figures_stand_side_by_side(metrics: Path):
    row = compared(metrics, BLOCK5).iloc[0]
    assert (row["variant"], row["images"]) == (BLOCK5, 2371)
    assert (row["age_accuracy"], row["published_age_accuracy"]) == (0.61, 0.9028)
    assert (row["race_macro_f1"], row["published_race_macro_f1"]) == (0.75, 0.91)


def test_only_declared_variants_are_read_in_their_order(metrics: Path):
    assert compared(metrics, OWN, BLOCK5)["variant"].tolist() == [OWN, BLOCK5]
    assert compared(metrics, BLOCK5)["variant"].tolist() == [BLOCK5]


def test_a_variant_that_nobody_published_has_measured_figures_only(metrics: Path):
    shutil.copytree(metrics / OWN, metrics / "mine")
    for name in (OWN, "mine"):
        row = compared(metrics, name).iloc[0]
        assert row["gender_accuracy"] == 0.8
        assert row.filter(like="published_").isna().all()


def test_a_network_of_one_task_leaves_the_others_empty(metrics: Path):
    row = compared(metrics, BLOCK5, GENDER).iloc[1]
    assert (row["gender_accuracy"], row["published_gender_accuracy"]) == (0.93, 0.9805)
    others = [c for c in row.index if "age_" in c or "race_" in c]
    assert len(others) == 4 * len(["", "sd", "difference", "published", "rerun"])
    assert row[others].isna().all()


def test_a_variant_without_metrics_says_what_to_run(metrics: Path):
    with pytest.raises(
        UserError, match=r"absent/metrics\.json: missing; run `dvc repro ev.*@absent`"
    ):
        compared(metrics, OWN, "absent")


def write(metrics: Path, run: str, age: float, images: int = 2371):
    """Write the metrics of a run of all tasks whose age accuracy is given, the rest 0.5."""
    tasks = {task: {"accuracy": 0.5, "macro_f1": 0.5} for task in ("gender", "race")}
    content = {"images": images, "age": {"accuracy": age, "macro_f1": 0.5}, **tasks}
    (metrics / run).mkdir()
    (metrics / run / "metrics.json").write_text(json.dumps(content))


REPEATS = ["native", "seed-2", "seed-3", "fold-0", "fold-1", "fold-2", "published-split"]


@pytest.fixture
def repeated(metrics: Path) -> pd.DataFrame:
    """Compare the own network, whose age accuracy is 0.5, with all its repeats."""
    ages = [0.53, 0.56, 0.59, 0.4, 0.5, 0.6, 0.9]
    for suffix, age in zip(REPEATS, ages, strict=True):
        write(metrics, f"{OWN}+{suffix}", age, 700 if "fold" in suffix else 2371)
    return compared(metrics, OWN, *(f"{OWN}+{suffix}" for suffix in REPEATS))


def test_repeats_by_seed_and_fold_become_their_mean_and_spread(repeated: pd.DataFrame):
    rows = repeated.set_index("variant")
    seeds, folds = rows.loc[f"{OWN}+seeds"], rows.loc[f"{OWN}+folds"]
    assert (seeds["runs"], seeds["images"]) == (3, 2371)
    assert seeds["age_accuracy"] == pytest.approx((0.5 + 0.56 + 0.59) / 3)
    assert seeds["sd_age_accuracy"] == pytest.approx(0.045826, abs=1e-6)
    assert (folds["runs"], folds["images"]) == (3, 2100)
    assert folds["age_accuracy"] == pytest.approx(0.5)
    assert folds["sd_age_accuracy"] == pytest.approx(0.1)
    assert list(rows.index) == [OWN, f"{OWN}+native", f"{OWN}+seeds", f"{OWN}+folds"]


def test_the_native_twin_has_a_row_with_the_difference_to_its_variant(repeated: pd.DataFrame):
    twin = repeated.set_index("variant").loc[f"{OWN}+native"]
    assert twin["age_accuracy"] == 0.53
    assert twin["difference_age_accuracy"] == pytest.approx(0.03)
    assert twin["difference_gender_accuracy"] == pytest.approx(-0.3)


def test_the_published_protocol_stands_beside_the_honest_figures_of_its_variant(
    repeated: pd.DataFrame,
):
    own = repeated.iloc[0]
    assert (own["age_accuracy"], own["rerun_age_accuracy"]) == (0.5, 0.9)
    assert repeated["rerun_age_accuracy"].notna().tolist() == [True, False, False, False]


def test_a_repeat_without_metrics_says_what_to_run(metrics: Path):
    with pytest.raises(UserError, match=rf"run `dvc repro evaluate@{OWN}\+native`"):
        compared(metrics, OWN, f"{OWN}+native")


def table_of(text: str, figure: str) -> list[list[str]]:
    """Return the cells of one Markdown table without its rule."""
    block = next(b for b in text.split("\n\n") if b.startswith(f"| {figure}"))
    lines = block.splitlines()
    assert set(lines.pop(1)) <= set("|-: ")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_markdown_tables_show_every_figure_of_a_task(metrics: Path):
    text = comparison_markdown(compared(metrics, *MEASURED))
    kinds = ("published", "honest")
    heads = [f"{figure} {kind}" for figure in ("accuracy", "macro F1") for kind in kinds]
    assert table_of(text, "Age group") == [
        ["Age group", *heads],
        [f"`{BLOCK5}`", "0.903", "0.610", "0.900", "0.580"],
        [f"`{OWN}`", "-", "0.500", "-", "0.400"],
    ]
    assert table_of(text, "Gender")[-1] == [f"`{GENDER}`", "0.981", "0.930", "0.980", "0.920"]
    assert table_of(text, "Race")[1] == [f"`{BLOCK5}`", "0.925", "0.830", "0.910", "0.750"]
    assert "Measured on 2,371 test images." in text


def test_a_task_that_no_variant_learnt_has_no_table(metrics: Path):
    text = comparison_markdown(compared(metrics, GENDER))
    assert "| Gender" in text
    assert "| Age" not in text
    assert "| Race" not in text


def test_the_markdown_tables_show_reruns_spreads_and_differences(repeated: pd.DataFrame):
    header, *rows = table_of(comparison_markdown(repeated), "Age group")
    assert header[1:3] == ["accuracy rerun", "accuracy honest"]
    assert [row[:3] for row in rows] == [
        [f"`{OWN}`", "0.900", "0.500"],
        [f"`{OWN}`, native", "-", "0.530 (+0.030)"],
        [f"`{OWN}`, 3 seeds", "-", "0.550 ± 0.046"],
        [f"`{OWN}`, 3 folds", "-", "0.500 ± 0.100"],
    ]


def test_published_variants_that_were_not_trained_are_listed_with_their_weights(metrics: Path):
    published, table = read_published("local"), compared(metrics, *MEASURED)
    weights = dict.fromkeys(published.index, "vgg16-vggface") | {"mtl-cnn-ge": ""}
    header, *rows = table_of(untrained_markdown(table, published, weights), "not trained here")
    titles = ("age group", "gender", "race")
    assert header == ["not trained here", *(f"{title}, published" for title in titles), "weights"]
    assert len(rows) == 29 - len(MEASURED)
    assert ["`stl-vgg16-imagenet-full-age`", "0.922", "-", "-", "vgg16-vggface"] in rows
    assert ["`mtl-cnn-ge`", "-", "-", "-", "-"] in rows
    for nothing in (published.iloc[:0], published.loc[[*MEASURED]]):
        assert untrained_markdown(table, nothing, weights) == ""
    assert untrained_markdown(table, published, {}) == "", "in no line of variants.toml"


def test_epochs_and_intervals_stand_beside_the_honest_figures_of_single_runs(
    repeated: pd.DataFrame, tmp_path: Path
):
    evaluation = tmp_path / "evaluation"
    for run in (OWN, f"{OWN}+native"):
        (evaluation / run).mkdir(parents=True)
        (evaluation / run / "scores.csv").write_text(
            "task,metric,value,low,high\nage,accuracy,0.5,0.41,0.592\nage,nll,1,0.8,1.2\n"
        )
    runs = [OWN, OWN, f"{OWN}+native", f"{OWN}+published-split"]
    curves = pd.DataFrame({"variant": runs, "epoch": [1, 2, 5, 3]})
    table = with_intervals(with_epochs(repeated, curves), evaluation)
    header, *rows = table_of(comparison_markdown(table), "Age group")
    assert header[1:4] == ["epochs", "accuracy rerun", "accuracy honest"]
    assert [row[1:4] for row in rows] == [
        ["2 (rerun 3)", "0.900", "0.500 [0.410, 0.592]"],
        ["5", "-", "0.530 [0.410, 0.592] (+0.030)"],
        ["-", "-", "0.550 ± 0.046"],
        ["-", "-", "0.500 ± 0.100"],
    ]
    (evaluation / OWN / "scores.csv").unlink()
    with pytest.raises(UserError, match=r"scores\.csv: missing; run `dvc repro -f evaluate`"):
        with_intervals(repeated, evaluation)


def test_a_table_with_long_names_is_broken_to_a_hundred_columns():
    numbers = {"seeds_a": 3, "seeds_b": 3, "difference": 0.01, "low": -0.01, "high": 0.02}
    row = {"contrast": "MobileNet, faces - VGG16, ImageNet", "task": "gender", **numbers}
    table = contrast_table(pd.DataFrame([row | {"p_holm": 1.0, "verdict": "equivalent"}]))
    lines = table.as_text().splitlines()
    assert 90 < max(map(len, lines)) <= 100
    assert lines[2].startswith("MobileNet, faces")
    assert lines[3] == "VGG16, ImageNet"


def test_charts_side_by_side_share_one_scale_to_one():
    scale = up_to_one(pd.DataFrame({"accuracy": [0.64, 0.9], "low": [0.5, None]}))
    assert scale.domain == [0.4, 1]
    assert up_to_one(pd.DataFrame({"accuracy": [0.03, 0.9]})).domain == [0.0, 1]


def test_the_terminal_tables_show_what_a_person_needs_in_a_hundred_columns(
    metrics: Path, repeated: pd.DataFrame, capsys: pytest.CaptureFixture[str]
):
    costs = pd.DataFrame({"variant": [BLOCK5, f"{BLOCK5}+published-split"]})
    costs = costs.assign(parameters=14_900_000, gflops=5.9, seconds=[612.0, None])
    print_comparison(compared(metrics, *MEASURED), costs)
    print_comparison(repeated, costs)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    for variant, figures in (
        (BLOCK5, ["0.903", "0.610"]),
        (GENDER, ["0.981", "0.930"]),
        (f"{OWN}, native", ["0.530 (+0.030)"]),
        (f"{OWN}, 3 seeds", ["0.550 ± 0.046"]),
        (BLOCK5, ["14,900,000", "5.900", "612"]),
    ):
        candidates = [line for line in lines if line.strip().startswith(variant)]
        assert any(all(figure in line for figure in figures) for line in candidates), variant
    assert not any("published-split" in line for line in lines), "its network costs the same"


def test_no_published_figure_stands_beside_drawn_faces(metrics: Path):
    runs = [RunName.parse(run) for run in MEASURED]
    assert compare(metrics, runs, read_published("local"))["published_age_accuracy"].notna().any()
    drawn = compare(metrics, runs, read_published("demo"))
    assert drawn.filter(like="published_").isna().all(axis=None)


def test_no_published_figure_of_the_age_stands_beside_other_age_groups(metrics: Path):
    published = read_published("local", [10, 20, 30, 40, 116])
    row = compare(metrics, [RunName.parse(BLOCK5)], published).iloc[0]
    assert row.filter(like="published_age").isna().all()
    assert row["published_race_macro_f1"] == 0.91
    noise = pd.DataFrame(
        {"task": ["age", "race"], "wrong": [0.1, 0.06], "low": 0.05, "high": 0.2}
    ).assign(groups=10, images=20)
    text = noise_markdown(noise, published)
    assert "above the whole interval): 9 (1) of 20 in race." in text


def test_the_chart_has_every_variant_and_is_the_same_each_time(
    repeated: pd.DataFrame, tmp_path: Path
):
    for name in ("one.svg", "two.svg"):
        draw_leak(tmp_path / name, repeated, pd.DataFrame({"task": [], "wrong": []}))
    drawn = (tmp_path / "one.svg").read_bytes()
    assert drawn == (tmp_path / "two.svg").read_bytes()
    assert drawn.startswith(b"<svg")
    texts = set(re.findall(r"<text [^>]*>([^<]*)</text>", drawn.decode()))
    assert OWN in texts
    assert {"rerun", "honest"} <= texts
    assert "published" not in texts, "nobody published figures of that network"
    assert drawn.count(b'stroke-dasharray="5,4"') == 0
    noise = pd.DataFrame({"task": ["age", "race"], "wrong": [0.1, 0.06]})
    draw_leak(tmp_path / "ceiling.svg", repeated, noise)
    lines = (tmp_path / "ceiling.svg").read_bytes().count(b'stroke-dasharray="5,4"')
    assert lines == 2, "one for each task of which it is known"


def test_the_chart_of_costs_has_every_variant_and_is_the_same_each_time(tmp_path: Path):
    names = [f"variant-{number}" for number in range(31)]
    rows = [(n, "age", e, e * 10.0, 0.5) for n in [*names, "variant-0+native"] for e in (1, 2)]
    cost = pd.DataFrame(rows, columns=["variant", "task", "epoch", "tflop", "accuracy"])
    for file in ("one.svg", "two.svg"):
        draw_cost(tmp_path / file, cost)
    drawn = (tmp_path / "one.svg").read_bytes()
    assert drawn == (tmp_path / "two.svg").read_bytes()
    assert all(f">{name}</text>".encode() in drawn for name in names)
    assert b"native" not in drawn


def test_the_comparison_survives_its_csv(metrics: Path, repeated: pd.DataFrame, tmp_path: Path):
    for comparison in (compared(metrics, *MEASURED), repeated):
        comparison.to_csv(tmp_path / "c.csv", index=False)
        again = pd.read_csv(tmp_path / "c.csv")
        assert comparison_markdown(again) == comparison_markdown(comparison)


def test_a_published_accuracy_above_what_wrong_labels_allow_is_marked():
    row = pd.Series({"published_race_accuracy": 0.95, "ceiling_race_accuracy": 0.94})
    assert figure_cell(row, ("race", "accuracy", "published")).text == "0.950 †"
    row["ceiling_race_accuracy"] = 0.96
    assert figure_cell(row, ("race", "accuracy", "published")).text == "0.950"
    unknown = row.drop("ceiling_race_accuracy")
    assert figure_cell(unknown, ("race", "accuracy", "published")).text == "0.950"
