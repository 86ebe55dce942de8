"""What the pages say of results is computed again from the records in docs/results."""

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from workspace import inside

from stages import compare
from stages.commands import publish
from stages.comparison.label_issues import find_label_issues
from stages.comparison.significance import pairwise_tests
from stages.comparison.table import read_published
from stages.comparison.trainings import accuracy_over_cost, collect_curves, read_costs
from stages.core.params import load_params
from stages.core.run_names import HONEST, RunName
from stages.core.sections import TASKS
from stages.dataset.split_files import read_split
from stages.evaluation.bootstrap import wilson
from stages.evaluation.predictions import groups_of, read_predictions
from stages.faces.labels import date_in
from stages.publishing.records import restore

TOP = Path(__file__).parents[2]
CONV13 = "mtl-mobilenet-conv13"
SEEDS = ("", "+seed-2", "+seed-3")
FOLDS, OTHER_FOLDS = "utkface-folds", ("utkface-people", "utkface-dates")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of the records, by their names."""
    folder, found = tmp_path_factory.mktemp("records"), {}
    for file in (TOP / "docs/results").glob("*.tar.xz"):
        name = file.name.removesuffix(".tar.xz")
        restore(file, found.setdefault(name, folder / name))
    return found


def section(page: str, title: str) -> str:
    text = (TOP / "docs" / page).read_text(encoding="utf-8")
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_table_of_the_folds_is_that_of_its_records(records: dict[str, Path]):
    text = section("leak.md", "Every image tested once").split("**Days of the crawl")[0]
    lines = text.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    rows = [row for row in rows if row and row[-1].startswith("`utkface-")]
    assert [row[-1].strip("`") for row in rows] == ["utkface-aligned", FOLDS, *OTHER_FOLDS]
    for _, images, *told, name in rows:
        folder = records[name.strip("`")]
        names = map(RunName.parse, load_params(folder / "params.yaml").runs)
        runs = [run for run in names if run.variant == CONV13]
        folds = [run for run in runs if run.fold is not None]
        of = [json.loads((folder / f"metrics/{r.text}.json").read_text()) for r in folds or runs]
        figures = pd.DataFrame(of)[["age", "gender", "race"]]
        assert len(of) == (5 if folds else 3)
        spread = zip(figures.mean(), figures.std(ddof=1), strict=True)
        assert told == [f"{mean:.3f} ± {deviation:.3f}" for mean, deviation in spread]
        tested = [folder / f"data/evaluation/{r.text}/metrics.json" for r in folds or runs[:1]]
        assert images == f"{sum(json.loads(file.read_text())['images'] for file in tested):,}"


def test_folds_that_keep_people_or_days_together_differ_as_the_page_says(
    records: dict[str, Path], tmp_path: Path
):
    tables = {name: all_folds(records[name]) for name in (FOLDS, *OTHER_FOLDS)}
    common = set.intersection(*(set(table.index) for table in tables.values()))
    params = load_params(records[FOLDS] / "params.yaml")
    classes, runs = {task: params.classes.of(task) for task in TASKS}, {}
    for name, table in tables.items():
        table.loc[sorted(common)].to_csv(tmp_path / f"{name}.csv")
        runs[name] = read_predictions(tmp_path / f"{name}.csv", classes)
    split = pd.read_csv(records["utkface-people"] / "data/split/split.csv")
    names = runs[FOLDS].names
    # What is drawn anew is what was kept together: persons, or days.
    people = split.set_index("name").loc[names, "person"].to_numpy()
    days = pd.factorize(np.array([date_in(name) for name in names]))[0]
    text = " ".join(section("leak.md", "Every image tested once").split())
    for name, groups in zip(OTHER_FOLDS, (people, days), strict=True):
        pair = {FOLDS: runs[FOLDS], name: runs[name]}
        tests = pairwise_tests(pair, dict.fromkeys(pair, groups), 0.95, 2000, 1).set_index("task")
        for task in TASKS:
            row = -100 * tests.loc[task, ["difference", "high", "low"]]
            told = f"{row['difference']:+.1f} ({row['high']:+.1f} to {row['low']:+.1f})"
            assert told in text, (name, task, told)
    assert f"{len(common):,}" in text
    assert f"the {len(set(days))} days" in text
    table = all_folds(records["utkface-dates"])
    runs_of = [r.text for r in load_params(records["utkface-dates"] / "params.yaml").run_names]
    fold = pd.Series(dtype=str)
    for run in runs_of:
        file = records["utkface-dates"] / f"data/predictions/{run}.csv"
        if "+fold-" in run:
            fold = pd.concat([fold, pd.Series(run, index=pd.read_csv(file)["name"])])
    own = fold.groupby(fold.index.map(date_in)).transform(lambda of: of.value_counts().index[0])
    assert f"{(fold != own).sum()} of the {len(table):,} images are tested with the day" in text
    right = {
        name: tables[name]["race_true"] == tables[name]["race_predicted"]
        for name in (FOLDS, "utkface-dates")
    }
    recall = {name: r.groupby(tables[name]["race_true"]).mean() for name, r in right.items()}
    lost = 100 * (recall[FOLDS] - recall["utkface-dates"])
    most = lost[["Asian", "Indian", "Others"]]
    assert f"faces lose {most.min():.0f} to {most.max():.0f} points" in text
    assert lost[["White", "Black"]].max() < 1


def all_folds(folder: Path) -> pd.DataFrame:
    """The predictions of all folds of a record, by the names of the images."""
    runs = load_params(folder / "params.yaml").run_names
    files = [folder / f"data/predictions/{run.text}.csv" for run in runs if run.fold is not None]
    return pd.concat(map(pd.read_csv, files)).set_index("name")


def test_the_figures_beside_other_work_are_those_of_the_record(records: dict[str, Path]):
    lines = section("leak.md", "Beside other work").splitlines()
    told = [line for line in lines if line.startswith("| `mtl-mobilenet-160`")]
    folder = records["utkface-aligned"]
    scores = pd.read_csv(folder / "data/evaluation/mtl-mobilenet-160/scores.csv")
    scores = scores.set_index(["task", "metric"])
    images = pd.read_csv(folder / "data/predictions/mtl-mobilenet-160.csv")
    some = images[images["years_true"].between(21, 60)]
    share = (some["gender_true"] == some["gender_predicted"]).mean()
    scores.loc[("gender", "accuracy_21_60"), :] = [share, *wilson(share, len(some), 0.95)]
    wanted = []
    for ages in ("_21_60", ""):
        cells = []
        for figure, digits in (("mae", 2), ("cs5", 3), ("accuracy", 3)):
            row = scores.loc["gender" if figure == "accuracy" else "age", figure + ages]
            value, low, high = (f"{row[name]:.{digits}f}" for name in ("value", "low", "high"))
            cells.append(f"{value} [{low}, {high}]")
        wanted.append(f"| `mtl-mobilenet-160` | UTKFace | {' | '.join(cells)} |")
    assert told == wanted


def test_the_disputed_labels_are_counted_in_the_record(records: dict[str, Path]):
    folder = records["utkface-folds"]
    params = load_params(folder / "params.yaml")
    classes = {task: params.classes.of(task) for task in TASKS}
    folds = [run.text for run in params.run_names if run.fold is not None]
    tested = len(all_folds(folder))
    issues = find_label_issues(folder / "data/predictions", [folds], classes)
    counts = issues["task"].value_counts()
    sure = issues.loc[issues["confidence"] >= 0.9, "task"].value_counts()
    of_age = issues[issues["task"] == "age"]
    given, suggested = (of_age[name].map(classes["age"].index) for name in ("given", "suggested"))
    age, gender, race = (f"({counts[task] / tested * 100:.1f} %)" for task in TASKS)
    text = " ".join(section("leak.md", "Every image tested once").split())
    for told in (
        f"{counts['age']:,} labels of the age group {age}",
        f"{counts['gender']} of the gender {gender} and {counts['race']:,} of the race {race}",
        f"{((given - suggested).abs() == 1).sum():,} of those of the age suggest the next group",
        f"in {sure['age']}, {sure['gender']} and {sure['race']} the network is at least 90 % sure",
    ):
        assert told in text, told


def test_what_multi_task_learning_saves_is_computed_from_the_record(records: dict[str, Path]):
    data = records["utkface-aligned"] / "data"
    single = [f"stl-mobilenet-conv13-{task}" for task in TASKS]
    runs = [variant + seed for variant in (CONV13, *single) for seed in SEEDS]
    costs = read_costs(data / "evaluation", runs)
    of = costs.set_index("variant")
    once, whole = of["training_tflop_once"], of["training_tflop_epoch"]
    assert once[CONV13] == once[single[0]], "the frozen part is the same"
    training = [once[CONV13] + 10 * whole[names].sum() for names in ([CONV13], single)]
    seen = sum(pd.read_csv(data / "split/split.csv")["split"].isin(["train", "val"]))
    frozen = once[CONV13] * 1e3 / seen  # GFLOPs of an image
    prediction = [frozen + (of.loc[n, "gflops"] - frozen).sum() for n in ([CONV13], single)]
    reached = accuracy_over_cost(collect_curves(data / "curves", runs), costs)
    reached = reached.set_index(["variant", "task", "epoch"])["accuracy"]

    def mean(variant: str, task: str, epoch: int) -> str:
        return f"{sum(reached[variant + seed, task, epoch] for seed in SEEDS) / len(SEEDS):.3f}"

    together = " / ".join(mean(CONV13, task, 10) for task in TASKS)
    alone = " / ".join(mean(n, task, 3) for n, task in zip(single, TASKS, strict=True))
    text = " ".join((TOP / "docs/mtl.md").read_text(encoding="utf-8").split())
    more, later = training[1] / training[0], prediction[1] / prediction[0]
    assert f"{more:.1f} times less arithmetic in training and {later:.1f} times less in" in text
    assert once[CONV13] + 3 * whole[single].sum() == pytest.approx(training[0], rel=0.1)
    assert f"{together} against {alone}" in text


@pytest.fixture(scope="module")
def better(records: dict[str, Path]) -> pd.Series:
    """By run, another run and task, whether the first is significantly more often right."""
    folder = records["utkface-aligned"]
    params = load_params(folder / "params.yaml")
    classes = {task: params.classes.of(task) for task in TASKS}
    names = [run.text for run in params.run_names if run.split == HONEST]
    runs = {n: read_predictions(folder / f"data/predictions/{n}.csv", classes) for n in names}
    split = read_split(folder / "data/split/split.csv")
    groups = {name: groups_of(predictions, split) for name, predictions in runs.items()}
    tests = pairwise_tests(runs, groups, 0.95, 2, 1)
    turned = {"variant_a": "variant_b", "variant_b": "variant_a"}
    other = tests.rename(columns=turned).assign(difference=-tests["difference"])
    both = pd.concat([tests, other]).set_index(["variant_a", "variant_b", "task"])
    return both["difference"].gt(0) & both["p_holm"].lt(0.05)


def differing(better: pd.Series, one: str, than: list[str]) -> set[tuple[str, str, str]]:
    """The significant differences of a run to others: the better one, the other, the task."""
    pairs = [(a, b, t) for b in than for a, b in ((one, b), (b, one)) for t in TASKS]
    return {pair for pair in pairs if better.get(pair, False)}


def test_which_differences_are_significant_is_computed_from_the_record(better: pd.Series):
    names = list(better.index.unique("variant_a"))
    text = " ".join(section("leak.md", "All results").split())
    assert f"all {len(better) // 2:,} pairs of runs and tasks" in text

    def not_better(runs: list[str], than: list[str], tasks: Iterable[str] = TASKS) -> set[str]:
        """`<run> <other> <task>` where the first is not significantly more often right."""
        pairs = ((a, b, t) for a in runs for b in than for t in tasks if (a, b, t) in better)
        return {" ".join(pair) for pair in pairs if not better[pair]}

    others = [name for name in names if "mobilenet" not in name]
    at_160 = [name for name in names if name.startswith("mtl-mobilenet-160")]
    whole = at_160 + [n for n in names if n.startswith(("mtl-mobilenet-tuned", "mtl-mobilenet-av"))]
    conv13 = [name for name in names if "conv13" in name]
    vgg16, cnn, block5 = "mtl-vgg16-imagenet-tuned", "mtl-cnn-tuned", "mtl-vgg16-imagenet-block5"
    heads = [f"{block5}-{heads}" for heads in ("ge", "ge-gm", "ge-am")]
    single = [f"stl-vgg16-imagenet-block5-{task}" for task in TASKS]
    cnns = ["mtl-cnn", "mtl-cnn-ge", "mtl-cnn-ge-gm", "mtl-cnn-ge-am"]
    full = "mtl-vgg16-imagenet-full"
    seeds = ("mtl-mobilenet-160+seed-3", "mtl-mobilenet-160+seed-4", "mtl-mobilenet-160-average")
    assert not_better(whole, others) == {
        f"mtl-mobilenet-tuned {vgg16} gender",
        *(f"{name} {vgg16} age" for name in whole if name not in seeds),
    }
    rest = [name for name in others if name not in (vgg16, full)]
    assert not not_better(conv13, rest, ["gender", "race"])
    pairs = [(name, other) for name in conv13 for other in (vgg16, full)]
    assert not any(better.get((*pair, "race"), False) for pair in pairs)
    in_gender = [sum(better.get((n, o, "gender"), False) for n in conv13) for o in (vgg16, full)]
    number = sum((name, full, "gender") in better for name in conv13)
    assert f"{in_gender[0]} and {in_gender[1]} of the {number} runs" in text
    in_race = [
        (a, b, "race")
        for a in at_160
        for b in conv13
        if (a, b, "race") in better and "average" not in a
    ]
    told = f"{better[in_race].sum()} of the {len(in_race)} pairs"
    assert f"In race, {told} with a run of `mtl-mobilenet-160` differ significantly" in text
    assert not not_better(["mtl-mobilenet-160-average"], conv13, ["race"])
    assert not_better([vgg16], [n for n in others if n != vgg16]) == {
        *(f"{vgg16} {other} {task}" for other in (cnn, full) for task in TASKS),
        *(f"{vgg16} {name} age" for name in (*heads[:2], single[0])),
        *(f"{vgg16} {name} gender" for name in (block5, single[1])),
    }
    assert not not_better([cnn], [*cnns, "mtl-vgg16-imagenet-frozen"])

    assert not differing(better, block5, [*single, cnn])
    assert differing(better, block5, heads) == {(block5, heads[1], "gender")}
    assert differing(better, cnns[0], cnns[1:]) == {
        (cnns[0], cnns[1], "gender"),
        (cnns[3], cnns[0], "race"),
    }


def test_what_vgg16_with_all_layers_is_better_than_is_computed_from_the_record(better: pd.Series):
    full, block5 = "mtl-vgg16-imagenet-full", "mtl-vgg16-imagenet-block5"
    heads = [f"{block5}-{name}" for name in ("ge", "ge-gm", "ge-am")]
    single = [f"stl-vgg16-imagenet-block5-{task}" for task in TASKS]
    tuned = ["mtl-vgg16-imagenet-tuned", "mtl-cnn-tuned"]
    assert differing(better, full, [block5, *heads, *single, *tuned]) == {
        *((full, other, "race") for other in (block5, *heads, single[2])),
        *((full, other, "gender") for other in heads[:2]),
    }


@pytest.mark.parametrize("name", ["mtl-vgg16-imagenet-full", "mtl-vgg16-imagenet-block5"])
def test_what_the_reruns_remember_is_computed_from_the_record(records: dict[str, Path], name: str):
    folder = records["utkface-aligned"] / "data/predictions"
    printed = read_published("local").loc[name]
    published = [printed[f"{task}_accuracy"] for task in TASKS]
    honest, rerun = (pd.read_csv(folder / f"{n}.csv") for n in (name, f"{name}+published-split"))

    def accuracies(table: pd.DataFrame) -> list[float]:
        return [(table[f"{t}_true"] == table[f"{t}_predicted"]).mean() for t in TASKS]

    seen = accuracies(rerun[rerun["trained_on"] == 1])
    figures = zip(published, accuracies(honest), seen, strict=True)
    age, gender, race = (f"{(told - new) / (old - new):.2f}" for told, new, old in figures)
    page = " ".join((TOP / "docs/leak.md").read_text(encoding="utf-8").split())
    if name.endswith("full"):
        assert f"{age} in age, {gender} in gender and {race} in race for `{name}`" in page
        three = (
            " / ".join(f"{value:.3f}" for value in values)
            for values in (accuracies(rerun), accuracies(honest), published)
        )
        for told in three:
            assert told in page, told
    else:
        assert f"and {age}, {gender} and {race} for `{name}`" in page
        assert f"and {accuracies(rerun)[0]:.3f} after 30" in page
        assert f"knows {seen[0]:.1%} of the age groups".replace("%", " %") in page
    first = " ".join((TOP / "README.md").read_text(encoding="utf-8").split())
    for values in (accuracies(rerun), published, accuracies(honest)):
        age, gender, race = (f"{value:.2f}" for value in values)
        assert f"{age}, {gender} and {race}" in first, (name, values)
    if name.endswith("full"):
        age, gender, race = (f"{value:.2f}" for value in accuracies(rerun))
        assert f"reaches {age}, {gender} and {race} here (age group, gender, race)" in first
        whole, old = (f"{100 * each[0]:.0f} %" for each in (accuracies(honest), published))
        assert f"(`{name}`) classifies {whole} of the age groups correctly, not {old}" in first


def test_what_the_rerun_of_frozen_vgg16_remembers_is_that_of_the_record(records: dict[str, Path]):
    name = "mtl-vgg16-imagenet-frozen"
    figures = [
        json.loads((records["utkface-aligned"] / f"metrics/{run}.json").read_text())
        for run in (f"{name}+published-split", name)
    ]
    rerun, honest = (" / ".join(f"{each[task]:.3f}" for task in TASKS) for each in figures)
    printed = read_published("local").loc[name]
    published = " / ".join(f"{printed[f'{task}_accuracy']:.3f}" for task in TASKS)
    page = " ".join((TOP / "docs/leak.md").read_text(encoding="utf-8").split())
    assert f"{rerun} in its rerun, {honest} honest, {published} published" in page


def test_the_attempts_in_the_record_have_its_validation_figures(records: dict[str, Path]):
    folder = records["utkface-aligned"]
    weights = load_params(folder / "params.yaml").train.task_weights.model_dump()
    text = section("tuning.md", "What each ingredient is worth")
    table = text.split("What was tried before")[1].split("These are computed")[0]
    told = [line for line in table.splitlines() if line.startswith("| `")]
    assert len(told) == 10
    for line in told:
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        run = cells[0].split("`")[1]
        images = pd.read_csv(folder / f"data/predictions/{run}.val.csv")
        right = {t: (images[f"{t}_true"] == images[f"{t}_predicted"]).mean() for t in TASKS}
        score = sum(weights[task] * right[task] for task in TASKS)
        wanted = [*(f"{right[task]:.3f}" for task in TASKS), f"{score:.4f}"]
        if "years_true" in images:
            error = (images["years_true"] - images["years_predicted"]).abs().mean()
            wanted.append(f"{error:.2f}")
        assert cells[2 : 2 + len(wanted)] == wanted, run


def test_what_people_in_the_training_images_do_to_the_accuracy(records: dict[str, Path]):
    folder = records["utkface-aligned"]
    of = pd.read_csv(records["utkface-people"] / "data/split/split.csv").set_index("name")["person"]
    split = pd.read_csv(folder / "data/split/split.csv").set_index("name")["split"]
    used = set(of[split.index[split.isin(["train", "val"])]])
    text = section("leak.md", "Every image tested once")
    table = text.split("without these 140")[1].split("Three networks, trained again")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) == 4
    for line in rows:
        variant, *told = (cell.strip() for cell in line.split("|")[1:-1])
        images = pd.read_csv(folder / f"data/predictions/{variant.strip('`')}.csv")
        known = images["name"].map(of).isin(used)
        assert (known.sum(), len(known)) == (140, 2067)
        right = [images[f"{t}_true"] == images[f"{t}_predicted"] for t in TASKS]
        assert told == [f"{each.mean():.3f}, {each[~known].mean():.3f}" for each in right]


def test_networks_trained_with_people_together_have_the_figures_of_the_record(
    records: dict[str, Path],
):
    text = section("leak.md", "Every image tested once").split("Three networks, trained again")[1]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.split("Out-of-fold")[0].splitlines()
        if line.startswith("| `")
    ]
    assert len(rows) == 6
    for variant, _, *told, record in rows:
        folder = records[record.strip("`")]
        scores = pd.read_csv(folder / f"data/evaluation/{variant.strip('`')}/scores.csv")
        scores = scores[scores["metric"] == "accuracy"].set_index("task")
        cells = scores.loc[[*TASKS], ["value", "low", "high"]].itertuples(index=False)
        assert told == [f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in cells]
    people, split = (
        pd.read_csv(records[name] / "data/split/split.csv").set_index("name")
        for name in ("utkface-people", "utkface-aligned")
    )
    used = people["split"].isin(["train", "val"])
    tested = people["split"] == "test"
    assert not set(people.loc[tested, "person"]) & set(people.loc[used, "person"])
    common = (tested & (split["split"].reindex(people.index) == "test")).sum()
    assert f"{tested.sum():,} test images, of which {common} are also" in " ".join(text.split())
    race = [float(told[-1][:5]) for _, _, *told, _ in rows]
    less = [
        100 * (copies - together) for copies, together in zip(race[::2], race[1::2], strict=True)
    ]
    assert f"{min(less):.1f} to {max(less):.1f} points less in race" in " ".join(text.split())


def test_the_tables_of_the_pages_are_those_of_the_record(
    records: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name, folder = "utkface-aligned", tmp_path / "again"
    shutil.copytree(records[name], folder)
    pages = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]
    for page in pages:
        (copy := folder / page.relative_to(TOP)).parent.mkdir(exist_ok=True)
        text = page.read_text(encoding="utf-8")
        copy.write_text(re.sub(r"(make publish: .*-->\n).*?(<!-- end)", r"\1\2", text, flags=re.S))
    monkeypatch.setattr(publish, "write_record", lambda *_: None)
    with inside(folder):
        compare.main()
        publish.publish_all(load_params(), name, records[name])
    for page in pages:
        assert (folder / page.relative_to(TOP)).read_text() == page.read_text(), page
    split = Path("docs/splits", f"{name}.csv")
    assert (folder / split).read_text() == (TOP / split).read_text()


def test_what_untested_conflicting_labels_would_cost_is_computed_from_the_record(
    records: dict[str, Path],
):
    folder = records["utkface-aligned"]
    with inside(folder):
        noise = compare.noise_of_labels(load_params()).set_index("task")
    images = len(pd.read_csv(folder / "data/split/split.csv"))
    wrong = noise["wrong"] * noise["images"] / images
    reached = json.loads((folder / "metrics/mtl-mobilenet-160.json").read_text())
    text = " ".join((TOP / "docs/explanation/metrics.md").read_text(encoding="utf-8").split())
    shares = " / ".join(f"{100 * wrong[task]:.1f}" for task in TASKS)
    points = " / ".join(f"{100 * wrong[task] * reached[task]:.1f}" for task in TASKS)
    assert f"wrong labels of copies are {shares} % of all images" in text
    assert f"would be about {points} points lower" in text
    audit = json.loads((folder / "metrics/audit.json").read_text())
    first = " ".join((TOP / "README.md").read_text(encoding="utf-8").split())
    assert f"{audit['embeddings']['likely_copies']} of the 2,067 test images are likely" in first


def test_the_first_page_says_of_labels_and_days_what_leak_does():
    first = " ".join((TOP / "README.md").read_text(encoding="utf-8").split())
    page = (TOP / "docs/leak.md").read_text(encoding="utf-8")
    (noise,) = [line for line in page.splitlines() if line.startswith("Wrong labels set a ceiling")]
    wrong = re.findall(r"([\d.]+)% \[([\d.]+)%, ([\d.]+)%\]", noise)
    age, gender, race = ("{} ({} to {})".format(*shares) for shares in wrong)
    # The percent sign stands before the last bracket.
    assert f"{age} / {gender} / {race.replace(' (', ' % (')} of the labels of copies" in first
    above = re.findall(r"(\d+) \((\d+)\) of (\d+) in", noise)
    (some, surely, of), number = zip(*above, strict=True), above[0][2]
    assert set(of) == {number}
    told = "{}, {} and {} of the {} published accuracies lie above what that leaves, {}, {} and {}"
    assert told.format(*some, number, *surely) in first
    days = section("leak.md", "Every image tested once").split("| days together")[1].split("\n")[0]
    lost = re.findall(r"-([\d.]+) \(-([\d.]+) to -([\d.]+)\)", days)
    age, gender, race = (f"{loss} ({low} to {high})" for loss, high, low in lost)
    assert f"loses {age} / {gender} / {race.replace(' (', ' points (')}" in first
