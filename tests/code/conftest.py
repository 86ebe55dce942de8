"""Fixtures that several of these tests share."""

from pathlib import Path

import pytest
from drawn import CLASSES, Draw, draw_table
from workspace import inside, make_workspace

from stages import report
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
