"""What stage pretrained fetches, and what it keeps for other copies of the workspace."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stages import pretrained
from stages.core.errors import UserError
from stages.weights.fetch import FetchError
from stages.weights.registry import Source, WeightsFile

Bring = Callable[[str | None], Path]


@pytest.fixture
def fetched() -> list[str]:
    """What the source gives next; empty: it is down."""
    return []


@pytest.fixture
def bring(fetched: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bring:
    """Bring weights of no pinned digest into the workspace."""
    (tmp_path / "workspace/data/pretrained").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "workspace")
    monkeypatch.setattr(pretrained, "shared_folder", lambda name: tmp_path / "shared" / name)

    def fetch(target: Path) -> None:
        if not fetched:
            raise FetchError("is down")
        target.write_text(fetched.pop())

    sources = (Source("a place", fetch),)
    weights = WeightsFile("thing", "thing.bin", sources, lambda came, to: shutil.copy(came, to))
    return lambda given: pretrained._bring(weights, given, "a test")


def test_weights_without_a_pinned_digest_are_fetched_once(
    bring: Bring, fetched: list[str], tmp_path: Path
):
    fetched.append("first")
    path = bring(None)
    assert path.read_text() == "first"
    assert bring(None).read_text() == "first"  # from this workspace
    path.unlink()
    assert bring(None).read_text() == "first"  # from the copy that all workspaces share
    found = sorted(file.name for file in (tmp_path / "shared/pretrained").iterdir())
    assert found == ["thing.bin", "thing.bin.sha256"]


def test_weights_that_were_damaged_are_fetched_again(
    bring: Bring, fetched: list[str], tmp_path: Path
):
    fetched.append("first")
    path = bring(None)
    for damaged in ([path], [tmp_path / "shared/pretrained/thing.bin", path]):
        for file in damaged:
            file.write_text("damaged")
        with pytest.raises(UserError, match="a place: is down"):
            bring(None)
        fetched.append("first")
        assert bring(None).read_text() == "first"


def test_weights_that_differ_from_those_fetched_first_are_refused(
    bring: Bring, fetched: list[str], tmp_path: Path
):
    fetched.append("first")
    path = bring(None)
    path.write_text("damaged")
    (tmp_path / "shared/pretrained/thing.bin").unlink()
    fetched.append("another")
    with pytest.raises(UserError, match=r"a place: gives SHA-256 \w+, not \w+, which is known"):
        bring(None)
    assert path.read_text() == "damaged", "the workspace has taken the other file"


def test_weights_given_by_hand_are_not_kept_for_others(
    bring: Bring, fetched: list[str], tmp_path: Path
):
    (tmp_path / "own.bin").write_text("own")
    assert bring(str(tmp_path / "own.bin")).read_text() == "own"
    assert not (tmp_path / "shared").exists()
    fetched.append("first")
    assert bring(None).read_text() == "first"  # not the one by hand, which is still there
