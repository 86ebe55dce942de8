"""Fill the figures into README.md and docs/: `utkface-mtl publish`, or `make publish`.

Reads the results of the last run: data/comparison/, metrics/audit.json, data/split/split.csv and
the tables of searches in data/tuning/. Writes docs/leak.svg, docs/cost.svg, docs/tuning/,
docs/splits/<name>.csv (names and splits, no images), docs/results/<name>.tar.xz (all that the runs
left except networks and images) and, in the pages, the blocks `summary`, `comparison`, `chart`,
`cost`, `audit`, `split` and `tuning <search>`. A search without a table keeps its block.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

import pandas as pd

from stages.core.errors import UserError
from stages.core.files import atomic_write, write_csv
from stages.core.params import load_params
from stages.core.stage import run_stage
from stages.dataset.split_files import SPLITS, read_split
from stages.publishing.page_blocks import (
    describe_audit,
    describe_search,
    describe_split,
    fill_blocks,
)
from stages.publishing.records import record_file, write_record
from stages.reporting.comparison_tables import summary_markdown

COMPARISON = Path("data/comparison")
TUNING = Path("data/tuning")
AUDIT = Path("metrics/audit.json")
SPLIT = Path("data/split/split.csv")
DOCS = Path("docs")
CHARTS = {
    "chart": ("leak.svg", "Published, rerun and honest accuracy of each variant"),
    "cost": (
        "cost.svg",
        "Validation accuracy of each variant over the cost of its training, by task",
    ),
}


def main() -> None:
    """Refuse the demo, copy pictures and split, fill the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", help="of split file and record; default: data.source")
    name = parser.parse_args().name
    params = load_params()
    source = params.data.source
    if source == "demo":
        raise UserError(
            "data.source is demo: scores on drawn portraits stand for nothing and are not published"
        )
    charts = [file for file, _ in CHARTS.values()]
    tables = ("comparison.md", "comparison.csv", *charts)
    for file in (*(COMPARISON / name for name in tables), AUDIT, SPLIT):
        if not file.is_file():
            raise UserError(f"{file}: missing; run `dvc repro`")
    split_file = DOCS / "splits" / f"{name or source}.csv"
    split = read_split(SPLIT)
    sizes = {name: int((split["split"] == name).sum()) for name in SPLITS}
    audit = json.loads(AUDIT.read_text(encoding="utf-8"))
    texts = {
        "summary": summary_markdown(pd.read_csv(COMPARISON / "comparison.csv")),
        "comparison": (COMPARISON / "comparison.md").read_text(encoding="utf-8"),
        "audit": describe_audit(audit, audit["published_protocol"]),
    }
    found = [search for search in params.searches if (TUNING / f"{search}.md").is_file()]
    pages = [Path("README.md"), *sorted(DOCS.glob("*.md"))]
    filled = {}
    for page in pages:
        link = _Links(page)
        blocks: dict[str, str | None] = {
            **texts,
            **{block: link.picture(DOCS / file, text) for block, (file, text) in CHARTS.items()},
            "split": describe_split(link.to(split_file), sizes),
            **{f"tuning {search}": None for search in params.searches},
        }
        for search in found:
            table = (TUNING / f"{search}.md").read_text(encoding="utf-8")
            picture = link.picture(DOCS / "tuning" / f"{search}.png", f"Outcome of {search}")
            blocks[f"tuning {search}"] = describe_search(table, picture)
        filled[page] = fill_blocks(str(page), page.read_text(encoding="utf-8"), blocks)
    write_csv(split_file, split)
    record = record_file(name or source)
    write_record(record, params, params.runs)
    copied = {DOCS / file: COMPARISON / file for file in charts}
    copied |= {DOCS / "tuning" / f"{s}.png": TUNING / f"{s}.png" for s in found}
    for target, origin in copied.items():
        with atomic_write(target) as partial:
            shutil.copyfile(origin, partial)
    for page, text in filled.items():
        with atomic_write(page) as partial:
            partial.write_text(text, encoding="utf-8")
    print(f"publish: {', '.join(map(str, [*pages, *copied, split_file, record]))}")


class _Links:
    """Links from a page to files of the project, in Markdown."""

    def __init__(self, page: Path) -> None:
        self.page = page

    def to(self, file: Path) -> str:
        return Path(os.path.relpath(file, self.page.parent)).as_posix()

    def picture(self, file: Path, text: str) -> str:
        return f"![{text}]({self.to(file)})"


if __name__ == "__main__":
    run_stage(main)
