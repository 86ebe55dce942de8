"""The comparison: declared variants only, published figures beside the measured ones."""

import json
from pathlib import Path

import pandas as pd
import pytest

from stages.reporting.comparison import as_markdown, compare, print_table
from stages.workspace.errors import UserError

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
        (tmp_path / f"{variant}.json").write_text(text)
    (tmp_path / "left-over.json").write_text("not even JSON")
    (tmp_path / "split.json").write_text('{"train": 1}')
    return tmp_path


def test_measured_and_published_figures_stand_side_by_side(metrics: Path):
    row = compare(metrics, [BLOCK5]).iloc[0]
    assert (row["variant"], row["images"]) == (BLOCK5, 2371)
    assert (row["age_accuracy"], row["published_age_accuracy"]) == (0.61, 0.9028)
    assert (row["race_macro_f1"], row["published_race_macro_f1"]) == (0.75, 0.91)


def test_only_declared_variants_are_read_in_their_order(metrics: Path):
    assert compare(metrics, [OWN, BLOCK5])["variant"].tolist() == [OWN, BLOCK5]
    assert compare(metrics, [BLOCK5])["variant"].tolist() == [BLOCK5]


def test_a_variant_that_nobody_published_has_measured_figures_only(metrics: Path):
    (metrics / "mine.json").write_text((metrics / f"{OWN}.json").read_text())
    for name in (OWN, "mine"):
        row = compare(metrics, [name]).iloc[0]
        assert row["gender_accuracy"] == 0.8
        assert row.filter(like="published_").isna().all()


def test_a_network_of_one_task_leaves_the_others_empty(metrics: Path):
    row = compare(metrics, [BLOCK5, GENDER]).iloc[1]
    assert (row["gender_accuracy"], row["published_gender_accuracy"]) == (0.93, 0.9805)
    others = [c for c in row.index if "age_" in c or "race_" in c]
    assert len(others) == 8
    assert row[others].isna().all()


def test_a_variant_without_metrics_says_what_to_run(metrics: Path):
    with pytest.raises(UserError, match=r"absent\.json: missing; run `dvc repro evaluate@absent`"):
        compare(metrics, [OWN, "absent"])


def test_the_markdown_table_shows_every_figure(metrics: Path):
    text = as_markdown(compare(metrics, list(MEASURED)))
    header, rule, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        "variant",
        *(f"{task} {f}" for task in ("age", "gender", "race") for f in ("accuracy", "macro F1")),
    ]
    assert set(rule) <= set("|-: ")
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells == [
        [
            f"`{BLOCK5}`",
            *("0.610 (0.903)", "0.580 (0.900)"),
            *("0.920 (0.976)", "0.910 (0.980)"),
            *("0.830 (0.925)", "0.750 (0.910)"),
        ],
        [f"`{OWN}`", "0.500", "0.400", "0.800", "0.790", "0.600", "0.500"],
        [f"`{GENDER}`", "-", "-", "0.930 (0.981)", "0.920 (0.980)", "-", "-"],
    ]
    assert "on 2371 test images; in brackets: published" in text


def test_the_terminal_table_shows_every_figure_even_into_a_file(
    metrics: Path, capsys: pytest.CaptureFixture[str]
):
    print_table(compare(metrics, list(MEASURED)))
    lines = capsys.readouterr().out.splitlines()
    for variant, figures in (
        (BLOCK5, ["0.610 (0.903)", "0.910 (0.980)", "0.750 (0.910)"]),
        (OWN, ["0.500", "0.790"]),
        (GENDER, ["0.930 (0.981)"]),
    ):
        line = next(text for text in lines if f" {variant} " in text)
        assert [figure for figure in figures if figure not in line] == []


def test_the_comparison_survives_its_csv(metrics: Path, tmp_path: Path):
    comparison = compare(metrics, list(MEASURED))
    comparison.to_csv(tmp_path / "c.csv", index=False)
    again = pd.read_csv(tmp_path / "c.csv")
    assert as_markdown(again) == as_markdown(comparison)
