"""Fixtures that several of these tests share."""

import shutil
from pathlib import Path

import pytest
from drawn import CLASSES, Draw, draw_table
from workspace import inside, make_workspace

from stages import compare, report
from stages.core.files import write_csv
from stages.evaluation.predictions import Predictions, read_predictions


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Draw predictions as `draw_table` does, and read them back from a file."""

    def drawn(*arguments: object, **options: object) -> Predictions:
        write_csv(tmp_path / "drawn.csv", draw_table(*arguments, **options))  # type: ignore
        return read_predictions(tmp_path / "drawn.csv", CLASSES)

    return drawn


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished workspace with its report; nobody writes into it."""
    folder = tmp_path_factory.mktemp("finished")
    make_workspace(folder)
    with inside(folder):
        report.main()
    return folder


@pytest.fixture(scope="session")
def of_photographs(reported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished workspace as if its faces had not been drawn: with the published figures."""
    folder = tmp_path_factory.mktemp("photographs") / "copy"
    shutil.copytree(reported, folder)
    params = folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    assert "  source: demo" in text
    params.write_text(text.replace("  source: demo", "  source: utkface-aligned"), encoding="utf-8")
    with inside(folder):
        compare.main()
        report.main()
    return folder
