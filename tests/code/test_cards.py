"""Model cards: their header is what Hugging Face reads, their figures are those of the files."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from huggingface_hub import ModelCard
from workspace import BLOCK5, CNN, GENDER, SUITE, inside

from stages import report
from stages.core.files import digest
from stages.core.sections import Data
from stages.reporting.cards import card_of_file
from stages.reporting.licences import LICENCE_OF_IMAGES, licence_of_model, licences
from stages.reporting.report import TEMPLATES
from stages.runs.resolve import pretrained_parts, read_plan
from stages.weights.registry import BACKBONES, DETECTORS

SECTIONS = ["What the labels are", "Uses", "Data", "Training", "Results", "Limits", "Licences"]


def card(folder: Path, variant: str) -> str:
    return (folder / report.CARDS / f"{variant}.md").read_text(encoding="utf-8")


def scores_of(folder: Path, variant: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"data/evaluation/{variant}/scores.csv")


def test_each_variant_has_a_card_and_nothing_else_has(reported: Path):
    cards = reported / report.CARDS
    assert sorted(path.stem for path in cards.iterdir()) == sorted(SUITE)


@pytest.mark.parametrize("variant", SUITE)
def test_hugging_face_reads_the_header_with_the_scores(reported: Path, variant: str):
    data = ModelCard(card(reported, variant)).data
    scores = scores_of(reported, variant).set_index(["task", "metric"])["value"]
    found = {result.metric_name: result.metric_value for result in data.eval_results}
    tasks = ["gender"] if variant == GENDER else ["age", "gender", "race"]
    assert found == {
        f"{task} {name}": pytest.approx(scores[task, metric], abs=1e-6)
        for task in tasks
        for name, metric in (("accuracy", "accuracy"), ("macro F1", "macro_f1"))
    }
    assert data.model_name == variant
    assert data.library_name == "keras"
    assert data.pipeline_tag == "image-classification"
    assert data.license == ("mit" if variant == CNN else "other")


@pytest.mark.parametrize("variant", SUITE)
def test_the_tables_have_the_figures_of_the_files(reported: Path, variant: str):
    text = card(reported, variant)
    for row in scores_of(reported, variant).itertuples():
        if pd.isna(row.low):
            assert f" {row.value:.3f} " in text
        elif row.metric != "weighted_f1":
            assert f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" in text, row
    classes = pd.read_csv(reported / f"data/evaluation/{variant}/per_class.csv")
    for row in classes.itertuples(index=False):
        numbers = [f"{number:.3f}" for number in row[2:5]]
        cells = r" *\| *".join(map(re.escape, [row[0], row[1], *numbers, str(row[5])]))
        assert re.search(cells, text)
    groups = pd.read_csv(reported / f"data/evaluation/{variant}/subgroups.csv")
    for row in groups[groups["by"].isin(["gender", "race", "age"])].dropna().itertuples():
        assert f"{row.accuracy:.3f} [{row.low:.3f}, {row.high:.3f}]" in text
    assert f"`{digest(reported / 'models' / variant / 'model.keras')}`" in text


def test_a_card_has_its_sections_and_warns_of_what_the_model_is_not_for(
    reported: Path, of_photographs: Path
):
    text = card(reported, BLOCK5)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert "Trained on drawn faces." in text
    assert "It must not be used" in text
    assert "as published" not in text, "these faces are drawn"
    assert "accuracy, as published (see below)" in card(of_photographs, BLOCK5)
    assert "as published" not in card(of_photographs, CNN), "nobody published figures of it"


def test_the_card_of_a_released_file_is_about_that_file(reported: Path, tmp_path: Path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"a network")
    same = {"accuracy": 0.75, "agreement": 0.999}
    compared = {"megabytes": 8.137, "age": same, "gender": same | {"agreement": 0.9}, "race": same}
    scaled = "The saved network's own\nprobabilities are those before scaling."
    assert scaled in (TEMPLATES / "card.md.j2").read_text()  # of a run with temperatures, as here
    text = card_of_file(card(reported, CNN) + scaled, file, compared)
    assert ModelCard(text).data.library_name == "onnx"
    assert f"`model.onnx`, SHA-256 `{digest(file)}`" in text
    assert "per image, 8.1 MB |" in text
    assert (
        "the accuracies age 0.750, gender 0.750, race 0.750, and in each task at least 90" in text
    )
    assert not re.search("model[.]keras|import keras|saved network", text)


def test_a_card_of_one_that_left_the_suite_goes(reported: Path, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(reported, folder)
    (folder / report.CARDS / "mtl-gone.md").write_text("old")
    with inside(folder):
        report.main()
    assert not (folder / report.CARDS / "mtl-gone.md").exists()
    assert card(folder, CNN) == card(reported, CNN), "the same bytes"


@pytest.mark.parametrize("source", list(LICENCE_OF_IMAGES))
@pytest.mark.parametrize("backbones", [[], *([key] for key in BACKBONES), [*BACKBONES]])
def test_a_model_has_no_wider_licence_than_what_it_derives_from(
    source: str, backbones: list[tuple[str, str]]
):
    own = licence_of_model(source, backbones)
    assert (own.identifier == "mit") == (source == "demo" and not backbones)
    if source.startswith("utkface"):
        assert "non-commercial research only" in own.text
    assert all(BACKBONES[backbone].licence in own.text for backbone in backbones)
    rows = licences(source, "mobilenet0.25", backbones)
    assert rows[-1] == ("this model", own)
    assert len(rows) == 4 + len(backbones)


def test_an_average_derives_from_the_weights_of_all_members(reported: Path):
    with inside(reported):
        of_members = read_plan(BLOCK5).model_copy(update={"members": [CNN, BLOCK5]})
        assert pretrained_parts(of_members) == [("vgg16", "imagenet")]
        assert pretrained_parts(read_plan(CNN)) == []


def test_every_source_and_every_weights_file_states_a_licence():
    sources = Data.model_fields["source"].annotation.__args__  # type: ignore[union-attr]
    assert set(LICENCE_OF_IMAGES) == set(sources)
    for weights in (*DETECTORS.values(), *BACKBONES.values()):
        assert weights.licence
