"""The page that the report is: its figures are those of the files, and nothing else is in it."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from workspace import ABLATION, BLOCK5, CNN, GENDER, HOSTILE, SEARCH, SUITE, inside

from stages import report
from stages.core.errors import UserError
from stages.core.files import write_csv
from stages.core.params import load_params
from stages.reporting.comparison_section import costs_table
from stages.reporting.results import read_results
from stages.tuning.search_table import tabulate_changes
from stages.tuning.searches import combinations


@dataclass
class Page(HTMLParser):
    """What a reader finds: tables by caption, values of charts by title, the rest as listed."""

    text: str
    tables: dict[str, list[list[tuple[str, float | None]]]] = field(default_factory=dict)
    charts: dict[str, pd.DataFrame] = field(default_factory=dict)
    pictures: list[dict[str, str | None]] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._where: list[str] = []
        self._caption = self._title = ""
        self._value: float | None = None
        self._cell = ""
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [str(given[name]) for name in ("src", "href") if name in given]
        if tag == "img":
            self.pictures.append(given)
        if tag == "section":
            self.sections.append(str(given["id"]))
        if tag == "tr" and self._caption:
            self.tables[self._caption].append([])
        if tag in ("td", "th"):
            value = given.get("data-value")
            self._cell, self._value = "", None if value is None else float(value)
        if tag == "caption":
            self._caption = ""
        if tag == "strong":
            self._title = ""
        if tag not in ("meta", "img", "link"):
            self._where.append(tag)
        self._data = given.get("type") == "application/json" if tag == "script" else False

    def handle_data(self, data: str) -> None:
        where = self._where[-1] if self._where else ""
        if where == "caption":
            self._caption += data
        elif where == "strong":
            self._title += data
        elif where == "script" and self._data:
            self.charts[self._title] = pd.DataFrame(json.loads(data)["data"]["values"])
        elif {"td", "th"} & set(self._where):
            self._cell += data

    def handle_endtag(self, tag: str) -> None:
        while self._where and self._where.pop() != tag:
            pass
        if tag == "caption":
            self.tables[self._caption] = []
        if tag in ("td", "th"):
            self.tables[self._caption][-1].append((" ".join(self._cell.split()), self._value))
        if tag == "table":
            self._caption = ""

    def rows(self, caption: str) -> dict[str, list[tuple[str, float | None]]]:
        """A table's rows by their first cell."""
        return {row[0][0]: row[1:] for row in self.tables[caption][1:]}

    def values(self, caption: str) -> list[list[float | str | None]]:
        """A table's rows, numbers where cells have them."""
        return [
            [text if value is None else value for text, value in row]
            for row in self.tables[caption][1:]
        ]


def read_page(folder: Path) -> Page:
    return Page((folder / report.REPORT).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(reported: Path) -> Page:
    return read_page(reported)


@pytest.fixture
def copy(reported: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy the workspace with texts of params.yaml exchanged."""

    def copied(**edits: str) -> Path:
        folder = tmp_path / "copy"
        shutil.copytree(reported, folder)
        params = folder / "params.yaml"
        text = params.read_text(encoding="utf-8")
        for key, value in edits.items():
            line = re.compile(rf"^(\s*{key}: )\S+", re.MULTILINE)
            text, times = line.subn(rf"\g<1>{value}", text, count=1)
            assert times == 1
        params.write_text(text, encoding="utf-8")
        return folder

    return copied


def csv(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "data" / name, keep_default_na=False, na_values=[""])


def test_the_fates_are_those_of_detect_and_of_the_published_run(of_photographs: Path, page: Page):
    counted = json.loads((of_photographs / "metrics/detect.json").read_text())
    caption = "Outcomes of the raw images"
    rows = read_page(of_photographs).rows(caption)
    assert page.rows(caption) == {words: row[:2] for words, row in rows.items()}
    for words, outcome in (("cropped", "cropped"), ("no face", "no_face"), ("all", "members")):
        assert rows[words][0] == (f"{counted[outcome]:,}", counted[outcome])
        assert rows[words][1][1] == pytest.approx(counted[outcome] / counted["members"])
    published = [rows[w][2][1] for w in ("cropped", "no face", "unreadable", "bad label", "all")]
    assert published == [23561, 521, 23, 4, 24109]


def test_the_people_and_the_splits_are_counted_as_in_index_and_split(reported: Path, page: Page):
    faces = csv(reported, "faces/index.csv").query("status == 'cropped'")
    split = csv(reported, "split/split.csv").set_index("name")["split"]
    faces = faces.assign(split=faces["name"].map(split))
    races = ["White", "Black", "Asian", "Indian", "Others"]
    assert page.charts["Race"]["images"].tolist() == [
        int((faces["race"] == code).sum()) for code in range(5)
    ]
    years = page.charts["Age and gender"]
    assert years["images"].sum() == len(faces)
    assert years.groupby("years")["images"].sum().to_dict() == (
        faces["age"].astype(int).value_counts().to_dict()
    )
    rows = page.rows("Images of each class in each split")
    sizes = faces["split"].value_counts()
    for code, race in enumerate(races):
        cells = rows[f"race: {race}"]
        for place, side in enumerate(("train", "val", "test")):
            images = int(((faces["race"] == code) & (faces["split"] == side)).sum())
            assert cells[2 * place][1] == images
            assert cells[2 * place + 1][1] == pytest.approx(images / sizes[side])
    young = faces["age"].between(1, 14).sum()
    assert sum(rows["age: 1-14"][i][1] or 0 for i in (0, 2, 4)) == young


def test_copies_and_disputed_groups_are_told(reported: Path, page: Page):
    counted = json.loads((reported / "metrics/split.json").read_text())
    assert counted["groups"] == 2
    rows = page.values("Copies of a picture")
    assert [row[1] for row in rows[:4]] == [
        counted[key]
        for key in (
            *("groups", "images_in_groups", "images_in_largest_group"),
            "groups_of_identical_images",
        )
    ]
    conflicting = csv(reported, "split/conflicting.csv")
    assert len(conflicting) == 2
    listed = page.values("Pictures that stand under several classes")
    assert [row[1] for row in listed] == conflicting["name"].tolist()
    assert [row[4] for row in listed] == ["White", "Black"]


def test_every_score_and_interval_of_a_model_is_that_of_its_file(reported: Path, page: Page):
    for variant in SUITE:
        scores = csv(reported, f"evaluation/{variant}/scores.csv")
        caption = next(c for c in page.tables if c.startswith(f"Scores of {variant} "))
        header, *rows = page.tables[caption]
        tasks = [text for text, _ in header][1:]
        names = {
            "accuracy": "accuracy",
            "macro F1": "macro_f1",
            "balanced accuracy": "balanced_accuracy",
            "negative log-likelihood, nats": "nll",
            "expected calibration error": "ece",
            "off by one group at most": "one_off",
        }
        found = {row[0][0]: dict(zip(tasks, row[1:], strict=True)) for row in rows}
        checked = 0
        for row in scores.itertuples():
            words = next((w for w, metric in names.items() if metric == row.metric), None)
            if words is None:
                continue
            text, value = found[words][row.task]
            interval = "" if pd.isna(row.low) else f" [{row.low:.3f}, {row.high:.3f}]"
            assert value == pytest.approx(row.value, abs=1e-9)
            assert text == f"{row.value:.3f}{interval}"
            checked += 1
        assert checked == 5 * len(tasks) + ("age" in tasks)
        combined = scores[scores["task"] == "all"].iloc[0]
        assert f"{combined.value:.3f} [{combined.low:.3f}, {combined.high:.3f}]" in caption


def test_charts_of_a_model_have_the_rows_of_its_files(reported: Path, page: Page):
    for variant in SUITE:
        folder = f"evaluation/{variant}"
        for title, name, columns in (
            ("Confusion", "confusion", ["actual", "predicted", "images", "share"]),
            ("Calibration", "reliability", ["scaling", "images", "confidence", "accuracy"]),
            ("Subgroups", "subgroups", ["by", "images", "accuracy", "low", "high", "small"]),
        ):
            table = csv(reported, f"{folder}/{name}.csv")
            for task, rows in table.groupby("task"):
                shown = page.charts[f"{title}, {task}: {variant}"][columns]
                pd.testing.assert_frame_equal(
                    shown, rows[columns].reset_index(drop=True), check_dtype=False
                )
        classes = csv(reported, f"{folder}/per_class.csv")
        numbers = [row[2:] for row in page.values(f"Classes, {variant}")]
        np.testing.assert_allclose(
            np.array(numbers, float), classes[["precision", "recall", "f1", "support"]]
        )


def test_the_comparison_has_honest_rerun_and_published_figures(of_photographs: Path):
    compared = csv(of_photographs, "comparison/comparison.csv").set_index("variant")
    page = read_page(of_photographs)
    for caption, figure in (("Accuracy", "accuracy"), ("Macro F1", "macro_f1")):
        header = [text for text, _ in page.tables[caption][0]][1:]
        rows = page.rows(caption)
        names = {variant: variant for variant in SUITE} | {
            f"{variant}, 3 folds": f"{variant}+folds" for variant in SUITE
        }
        assert set(rows) == set(names)
        for words, variant in names.items():
            for column, (text, value) in zip(header, rows[words], strict=True):
                if column == "combined score":
                    continue
                task, kind = column.split()
                prefix = {"published": "published_", "rerun": "rerun_", "honest": ""}[kind]
                there = compared.at[variant, f"{prefix}{task}_{figure}"]
                if pd.isna(there):
                    assert (text, value) == ("-", None)
                else:
                    assert value == pytest.approx(there, abs=1e-6)
                    assert text.startswith(f"{there:.3f}")
    assert page.rows("Accuracy")[BLOCK5][0][1] == 0.9028, "the published figure"
    deviation = compared.at[f"{CNN}+folds", "sd_age_accuracy"]
    assert page.rows("Accuracy")[f"{CNN}, 3 folds"][2][0].endswith(f"± {deviation:.3f}")


def test_no_published_figure_stands_beside_drawn_faces(of_photographs: Path, page: Page):
    for caption in ("Accuracy", "Macro F1"):
        header = [text for text, _ in page.tables[caption][0]]
        assert header == [
            t for t, _ in read_page(of_photographs).tables[caption][0] if "published" not in t
        ]
    assert "as printed" not in page.text
    assert "Published accuracies above" not in page.text


def test_tests_costs_curves_gaps_and_issues_are_those_of_their_files(reported: Path, page: Page):
    tests = csv(reported, "comparison/tests.csv")
    caption = next(c for c in page.tables if c.startswith("Paired tests"))
    shown = page.values(caption)
    assert [row[:3] for row in shown] == tests[["variant_a", "variant_b", "task"]].values.tolist()
    columns = ["difference", "p_bootstrap", "p_mcnemar", "p_holm"]
    np.testing.assert_allclose(np.array([r[3:] for r in shown], float), tests[columns])

    costs = page.rows("What the variants cost")
    for variant in SUITE:
        file = reported / f"data/evaluation/{variant}/costs.json"
        there = json.loads(file.read_text())
        names = ("parameters", "trainable_parameters", "megabytes", "gflops")
        assert [value for _, value in costs[variant]][:4] == [there[name] for name in names]
    assert [value for _, value in costs[CNN]][4:] == [3.0, 10.0, 100.5]
    assert costs[GENDER][5] == ("-", None), "trained elsewhere"

    curves = csv(reported, "comparison/curves.csv")
    for title, figure in (("Loss", "loss"), ("Score", "score")):
        rows = curves[(curves["figure"] == figure) & curves["variant"].isin(SUITE)]
        columns = ["variant", "split", "epoch", "value"]
        pd.testing.assert_frame_equal(
            page.charts[title], rows[columns].reset_index(drop=True), check_dtype=False
        )

    gap = csv(reported, "comparison/leakage.csv")
    numbers = np.array([row[2:] for row in page.values("Accuracy under the published protocol")])
    np.testing.assert_allclose(numbers.astype(float), gap[gap.columns[2:]])
    assert "87.5% of its 24 test images" in page.text

    issues = csv(reported, "comparison/label_issues.csv")
    assert len(issues) > 0
    assert page.values("Labels that networks dispute") == issues.values.tolist()

    fairness = pd.concat([csv(reported, f"evaluation/{v}/fairness.csv") for v in SUITE])
    fairness = fairness[fairness["gap"].notna() | fairness["odds_difference"].notna()]
    gaps = [row[6] for row in page.values("Gaps between subgroups")]
    assert [None if g == "-" else g for g in gaps] == [
        None if pd.isna(g) else g for g in fairness["gap"]
    ]


def test_a_search_is_drawn_with_what_is_finished_and_what_is_not(page: Page, reported: Path):
    drawn = page.charts[f"Search {SEARCH}"]
    table = csv(reported, f"tuning/{SEARCH}.csv")
    assert drawn["val_score"].tolist() == pytest.approx(table["val_score"].tolist(), nan_ok=True)
    assert drawn["text"].tolist()[:2] == ["0.410", "failed"]
    assert drawn["text"].tolist()[9] == "0.620 ★ ◆"


def test_an_ablation_is_drawn_with_what_each_change_is_worth(page: Page, reported: Path):
    drawn = page.charts[f"Search {ABLATION}"]
    table = csv(reported, f"tuning/{ABLATION}.csv").iloc[1:]
    assert drawn["change"].tolist() == table["change"].tolist()
    assert drawn["difference"].tolist() == pytest.approx(table["difference"].tolist(), nan_ok=True)
    assert drawn["difference"].dropna().tolist() == pytest.approx([-0.05])


@pytest.mark.parametrize(
    ("name", "edits", "column"),
    [
        (
            SEARCH,
            {
                "batch_size: [16, 32, 64, 128]": "head_width: [16]",
                "published: {learning_rate: 0.0001, batch_size: 32}": "published: {}",
            },
            "head_width",
        ),
        (ABLATION, {"    vary: one-by-one": "    seeds: 2\n    vary: one-by-one"}, "spread"),
        (SEARCH, {"batch_size: [16, 32, 64, 128]": "batch_size: [16, 32, 64]"}, "-b128 is no"),
        (ABLATION, {"dropout: [0.0]": "dropout: [0.1]"}, "dropout-0.0 is no setting"),
    ],
)
def test_the_table_of_another_grid_is_refused(
    copy: Callable[..., Path], name: str, edits: dict[str, str], column: str
):
    folder = copy()
    path = folder / "params.yaml"
    head, search = path.read_text().split(f"\n  {name}:\n")
    for old, new in edits.items():
        assert old in search
        search = search.replace(old, new, 1)
    path.write_text(f"{head}\n  {name}:\n{search}")
    with inside(folder), pytest.raises(UserError, match=f"{name}.csv: .*{column}") as error:
        report.main()
    assert f"utkface-mtl tune table {name}" in str(error.value)


def test_an_ablation_of_several_seeds_is_drawn_while_some_are_missing(copy: Callable[..., Path]):
    folder = copy()
    path = folder / "params.yaml"
    head, search = path.read_text().split(f"\n  {ABLATION}:\n")
    path.write_text(f"{head}\n  {ABLATION}:\n    seeds: 2\n{search}")
    with inside(folder):
        grid = combinations(load_params(), ABLATION)
        scores = {grid[i].name: 0.5 + i / 100 for i in (0, 1, 2, 4, 5)}
        summaries = {n: {"val_score": s, "val_accuracy": {"age": s}} for n, s in scores.items()}
        table = tabulate_changes(grid, dict.fromkeys(scores, "finished"), summaries)
        write_csv(Path(f"data/tuning/{ABLATION}.csv"), table)
        report.main()
    drawn = read_page(folder).charts[f"Search {ABLATION}"]
    assert drawn["state"].tolist()[:3] == ["partly finished", "finished", "not queued"]
    low, high = drawn.loc[1, ["low", "high"]]
    assert high - low == pytest.approx(2 * (2 * 0.5 * 0.01**2 / 2) ** 0.5)
    assert (drawn["low"][0], drawn["high"][0]) == pytest.approx((0.015, 0.015))


def test_an_average_has_its_costs_beside_timings(reported: Path):
    with inside(reported):
        results = read_results(load_params())
    assert results.timings is not None
    untrained = results.timings["variant"] != CNN
    found = replace(results, timings=results.timings[untrained])
    rows = costs_table(found).rows
    assert [row[0].text for row in rows] == list(results.runs)


def test_the_most_confident_errors_come_first(page: Page, reported: Path):
    predictions = csv(reported, f"predictions/{CNN}.csv")
    wrong = predictions[predictions["race_true"] != predictions["race_predicted"]]
    sure = wrong[[f"race_p_{name}" for name in ("White", "Black", "Asian", "Indian", "Others")]]
    order = wrong["name"].loc[sure.max(axis=1).sort_values(ascending=False).index]
    model = page.text[page.text.index(f'id="model-{CNN}"') : page.text.index(f'id="model-{BLOCK5}')]
    model = model[model.index("<h5>Race</h5>") :]
    places = [model.index(f"<small>{name}</small>") for name in order]
    assert len(places) > 1
    assert places == sorted(places)


def test_a_network_is_drawn_with_what_is_frozen_and_its_heads(page: Page):
    drawing = page.text[page.text.index('aria-label="mtl-cnn-ge-gm: ') :][:200]
    assert "frozen block1; learning block2; heads age, gender, race" in drawing
    assert page.text.count('<svg class="structure"') == len(SUITE)


def test_the_same_results_give_the_same_bytes(reported: Path, copy: Callable[..., Path]):
    folder = copy()
    (folder / report.REPORT).unlink()
    with inside(folder):
        report.main()
    assert (folder / report.REPORT).read_bytes() == (reported / report.REPORT).read_bytes()


def test_how_long_it_took_is_in_the_page_only_if_asked_for(copy: Callable[..., Path], page: Page):
    assert "Seconds and images per second" in page.text
    folder = copy(timings="false")
    pages = []
    for seconds in (10.0, 99.0):
        timing = {"seconds": seconds, "images_per_second": 100.5}
        (folder / f"data/timings/{CNN}.json").write_text(json.dumps(timing))
        with inside(folder):
            report.main()
        pages.append((folder / report.REPORT).read_bytes())
    assert pages[0] == pages[1]
    plain = read_page(folder)
    assert len(plain.rows("What the variants cost")[CNN]) == 5
    assert "Seconds and images per second" not in plain.text
    assert "report.timings: true" in plain.text


def test_the_page_asks_the_network_for_nothing(page: Page):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page.text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'")
    assert {address[:5] for address in page.addresses if address[0] != "#"} == {"data:"}
    assert str(Path.home()) not in page.text


def test_names_from_the_data_do_not_become_elements(page: Page):
    assert "&lt;img src=x onerror=alert(1)&gt;" in page.text
    assert HOSTILE not in page.text.replace("<script type", "")
    assert {picture["src"][:5] for picture in page.pictures if picture["src"]} == {"data:"}


@pytest.mark.parametrize(
    ("pictures", "source", "shown"),
    [
        *(("auto", "demo", True), ("auto", "utkface-aligned", False)),
        *(("true", "utkface-aligned", True), ("false", "demo", False)),
    ],
)
def test_faces_are_shown_only_where_they_may_be(
    copy: Callable[..., Path], pictures: str, source: str, shown: bool
):
    folder = copy(pictures=pictures, source=source)
    with inside(folder):
        report.main()
    page = read_page(folder)
    assert bool(page.pictures) == shown
    assert ("image/jpeg" in page.text) == shown
    assert ("The faces of this run are drawn" in page.text) == (source == "demo")
    assert all(picture["alt"] for picture in page.pictures)


def test_what_is_not_there_has_no_section(copy: Callable[..., Path], page: Page):
    assert {"leak", "issues", "tuning"} <= set(page.sections)
    folder = copy()
    for name in ("comparison/leakage.csv", "comparison/label_issues.csv"):
        file = folder / "data" / name
        file.write_text(file.read_text().splitlines()[0] + "\n")
    shutil.rmtree(folder / "data/tuning")
    with inside(folder):
        report.main()
    assert not {"leak", "issues", "tuning"} & set(read_page(folder).sections)


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("metrics/split.json", "dvc repro split"),
        (f"data/evaluation/{CNN}/costs.json", f"dvc repro evaluate@{CNN}"),
        (f"models/{CNN}/model.keras", f"train@{CNN}"),
        ("data/comparison/leakage.csv", "dvc repro -f compare"),
    ],
)
def test_a_missing_file_is_named_and_the_old_page_stays(
    copy: Callable[..., Path], name: str, mend: str
):
    folder = copy()
    (folder / name).unlink()
    before = (folder / report.REPORT).read_bytes()
    with inside(folder), pytest.raises(UserError, match=re.escape(name)) as error:
        report.main()
    assert mend in str(error.value)
    assert (folder / report.REPORT).read_bytes() == before


def test_a_model_file_that_is_none_is_refused(copy: Callable[..., Path]):
    folder = copy()
    (folder / f"models/{CNN}/model.keras").write_bytes(b"no archive")
    with inside(folder), pytest.raises(UserError, match=r"not a \.keras file"):
        report.main()
