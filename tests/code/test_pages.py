"""Pages: figures stand between marks, come from the results, and never from the demo."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from workspace import ABLATION, leave_searches

from stages.commands import publish
from stages.comparison import contrasts
from stages.core.errors import UserError
from stages.core.files import write_csv, write_json
from stages.core.params import load_params
from stages.publishing.page_blocks import describe_audit, fill_blocks
from stages.publishing.records import restore

TOP = Path(__file__).parents[2]
BLOCKS = {"table": "| a |\n", "nothing": ""}
COMPARISON = pd.DataFrame(
    [
        ("a", 0.9, 0.8, 0.5, 0.4, 0.6),
        ("b", 0.95, None, 0.6, 0.5, 0.7),
        ("c", None, None, 0.8, 0.7, 0.9),
        ("c+native", None, None, 0.9, 0.8, 0.95),
        ("d", None, 0.7, 0.7, 0.6, 0.8),
        ("e", 0.85, 0.7, 0.65, 0.6, 0.8),
    ],
    columns=["variant", "published", "rerun", "honest", "low", "high"],
)
COMPARISON = COMPARISON[["variant"]].assign(
    **{
        f"{prefix}{task}_accuracy": COMPARISON[kind] if kind and task == "age" else float("nan")
        for task in ("age", "gender", "race")
        for prefix, kind in (
            *(("published_", "published"), ("rerun_", "rerun"), ("", "honest")),
            *(("low_", "low"), ("high_", "high"), ("sd_", None), ("difference_", None)),
        )
    }
)
PAGE = "# Title\n<!-- make publish: table -->\nold\n<!-- end -->\ntext\n"


def test_a_block_is_replaced_and_the_rest_stays():
    filled = fill_blocks("page", PAGE, BLOCKS)
    assert filled == PAGE.replace("old", "\n| a |\n")
    assert fill_blocks("page", filled, BLOCKS) == filled


def test_a_block_of_which_nothing_is_known_stays():
    page = PAGE + PAGE.replace("table", "nothing")
    kept = fill_blocks("page", page, BLOCKS | {"nothing": None})
    assert kept == PAGE.replace("old", "\n| a |\n") + PAGE.replace("table", "nothing")


def test_a_block_without_content_is_emptied():
    page = PAGE.replace("table", "nothing")
    assert fill_blocks("page", page, BLOCKS) == page.replace("old\n", "")


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        (PAGE.replace("table", "tabel"), "page: unknown block 'tabel'; known: table, nothing"),
        (PAGE.replace("<!-- end -->", ""), "page: block 'table' has no <!-- end -->"),
        (PAGE.replace("old", "<!-- make publish: nothing -->"), "block 'table' has no"),
        ("<!-- end -->\n", "without the start of a block"),
    ],
)
def test_marks_that_do_not_fit_are_refused(page, fault):
    with pytest.raises(UserError, match=fault):
        fill_blocks("page", page, BLOCKS)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace with real-looking results and the committed pages and params."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["publish", "--name", "faces"])
    params = (TOP / "params.yaml").read_text()
    for old, new in (("source: demo", "source: local"), ("local: []", "local: [faces.zip]")):
        assert old in params
        params = params.replace(old, new, 1)
    Path("params.yaml").write_text(params)
    shutil.copy(TOP / "variants.toml", ".")
    Path("docs").mkdir()
    for page in ("docs/leak.md", "docs/tuning.md", "docs/mtl.md"):
        Path(page).write_text((TOP / page).read_text())
    blocks = [f"<!-- make publish: {name} -->\n<!-- end -->\n" for name in ("chart", "summary")]
    Path("README.md").write_text("# Own\n" + "".join(blocks))
    Path("data/comparison").mkdir(parents=True)
    write_csv(Path("data/comparison/comparison.csv"), COMPARISON)
    Path("data/comparison/comparison.md").write_text("| the table |\n")
    row = dict.fromkeys(contrasts.COLUMNS, 0.5) | {"contrast": "a - b", "verdict": "open"}
    write_csv(Path("data/comparison/contrasts.csv"), pd.DataFrame([row]))
    for chart in ("leak.svg", "cost.svg", "contrasts.svg"):
        Path("data/comparison", chart).write_text(f"<svg>{chart}</svg>")
    leave_searches(load_params())
    split = {"name": ["a", "b", "c"], "split": ["train", "test", "train"], "group": [0, 1, 2]}
    write_csv(Path("data/split/split.csv"), pd.DataFrame(split))
    write_csv(Path("data/split/conflicting.csv"), pd.DataFrame({"name": [], "group": []}))
    for metrics in ("detect", "split"):
        write_json(Path("metrics", f"{metrics}.json"), {})
    protocol = {"test_images": 2068, "trained_on": 1679, "trained_on_share": 0.811896}
    protocol |= {"copies_trained_on": 23, "copies_trained_on_share": 0.011122}
    counts = {"runs": 2, "test_images": 4134, "pairs_checked": 76900668, "leaks": 0}
    write_json(Path("metrics/audit.json"), counts | {"published_protocol": protocol})
    return tmp_path


def test_the_committed_pages_are_filled_with_the_results(workspace):
    publish.main()
    page = (workspace / "docs/leak.md").read_text()
    assert "\n| the table |\n" in page
    assert "](leak.svg)" in page
    assert "1,679 (81.2%) are training images" in page
    assert "76,900,668 pairs" in page
    assert "found 0 leaks" in page
    assert "[splits/faces.csv](splits/faces.csv): the split of each of 3 images" in page
    assert "(2 train, 0 val, 1 test)" in page
    readme = (workspace / "README.md").read_text()
    assert "](docs/leak.svg)" in readme
    rows = [line.split("|")[2:-1] for line in readme.splitlines() if line.startswith("| Age")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["`c`", "-", "-", "0.800 [0.700, 0.900]"],
        ["`d`", "-", "0.700", "0.700 [0.600, 0.800]"],
        ["`b`", "0.950", "-", "0.600 [0.500, 0.700]"],
        ["`a`", "0.900", "0.800", "0.500 [0.400, 0.600]"],
    ]
    assert (workspace / "docs/leak.svg").read_text() == "<svg>leak.svg</svg>"
    told = (workspace / "docs/mtl.md").read_text()
    assert re.search(r"\| a - b +\| 0.5 +\| 0.5, 0.5 +\| \+0.500", told)
    assert "](contrasts.svg)" in told
    tuning = (workspace / "docs/tuning.md").read_text()
    block = tuning.split(f"<!-- make publish: tuning {ABLATION} -->")[1].split("<!-- end -->")[0]
    assert "\n- as it is: 0.5000\n" in block
    assert re.search(r"\| finished +\| as it is +\| 0.5000 +\| - +\| 0.5000 +\| 2 +\| 3 ", block)
    assert f"\n\n![Outcome of {ABLATION}](tuning/{ABLATION}.png)\n" in block
    assert "](cost.svg)" in tuning
    with Image.open(workspace / f"docs/tuning/{ABLATION}.png") as picture:
        assert picture.format == "PNG"
    names = (workspace / "docs/splits/faces.csv").read_text()
    assert names == (workspace / "data/split/split.csv").read_text()
    restore(workspace / "docs/results/faces.tar.xz", workspace / "again")
    kept = workspace / f"again/data/tuning/{ABLATION}.csv"
    assert kept.read_bytes() == (workspace / f"data/tuning/{ABLATION}.csv").read_bytes()
    publish.main()
    assert (workspace / "docs/leak.md").read_text() == page


def test_the_record_alone_leaves_the_pages_as_they_are(workspace, monkeypatch):
    monkeypatch.setattr("sys.argv", ["publish", "--name", "faces", "--record-only"])
    before = {path: path.read_bytes() for path in (workspace / "docs").glob("*")}
    publish.main()
    record = workspace / "docs/results/faces.tar.xz"
    assert record.is_file()
    assert {p: p.read_bytes() for p in (workspace / "docs").rglob("*") if p.is_file()} == {
        **before,
        record: record.read_bytes(),
    }


def test_scores_on_drawn_portraits_are_not_published(workspace):
    before = (workspace / "docs/leak.md").read_text()
    for name in ("params.yaml", "variants.toml"):
        shutil.copy(TOP / name, ".")
    with pytest.raises(UserError, match="drawn portraits stand for nothing"):
        publish.main()
    assert (workspace / "docs/leak.md").read_text() == before
    assert not (workspace / "docs/splits").exists()


def test_results_that_are_missing_are_named(workspace):
    (workspace / "metrics/audit.json").unlink()
    with pytest.raises(UserError, match=r"audit\.json: missing; run `dvc repro`"):
        publish.main()


def test_every_test_that_the_promises_name_is_there():
    page = (TOP / "docs/trust.md").read_text()
    files = [TOP / "docs" / link for link in re.findall(r"\]\((\.\./tests/[^)]+)\)", page)]
    assert len(files) > 10
    tests = "".join(path.read_text() for path in (TOP / "tests").rglob("test_*.py"))
    assert all(path.is_file() for path in files)
    named = re.findall(r"`(test_\w+?)(?:…|`)", page)
    assert len(named) > 10
    assert [name for name in named if f"def {name}" not in tests] == []


def test_the_audit_tells_its_second_opinion_where_there_is_one():
    audit = {
        "published_protocol": {
            "test_images": 10,
            "trained_on": 8,
            "trained_on_share": 0.8,
            "copies_trained_on": 1,
            "copies_trained_on_share": 0.1,
        },
        "runs": 2,
        "test_images": 10,
        "pairs_checked": 1600,
        "leaks": 0,
    }
    alone = describe_audit(audit)
    assert alone.endswith("1,600 pairs in all, and found 0 leaks.")
    second = {"embeddings": {"pairs_checked": 1600, "likely_copies": 3, "similar": 5}}
    told = describe_audit(audit | second)
    assert told.startswith(alone)
    assert "found 3 test images that are likely copies of a used image, and 5 that" in told
