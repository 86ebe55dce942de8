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
from stages.core.paths import AUDIT_METRICS, COMPARISON, DOCS, PUBLISHED_SPLITS, SPLIT, TUNING
from stages.dataset.split_files import SPLITS, read_split
from stages.publishing import page_blocks
from stages.publishing.records import record_file, write_record
from stages.reporting.comparison_tables import summary_markdown

CHARTS = {  # title by file in data/comparison/, in the order of the blocks `chart` and `cost`
    "leak.svg": "Published, rerun and honest accuracy of each variant",
    "cost.svg": "Validation accuracy of each variant over the cost of its training, by task",
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
    names = ("comparison.csv", "comparison.md", *CHARTS)
    results, table, *charts = (COMPARISON / file for file in names)
    for file in (results, table, *charts, AUDIT_METRICS, SPLIT):
        if not file.is_file():
            raise UserError(f"{file}: missing; run `dvc repro`")
    split_file = PUBLISHED_SPLITS / f"{name or source}.csv"
    split = read_split(SPLIT)
    sizes = {name: int((split["split"] == name).sum()) for name in SPLITS}
    audit = json.loads(AUDIT_METRICS.read_text(encoding="utf-8"))
    found = [search for search in params.searches if (TUNING / f"{search}.md").is_file()]
    pages = [Path("README.md"), *sorted(DOCS.glob("*.md"))]
    filled = {}
    for page in pages:
        chart, cost = (_picture(page, DOCS / file, title) for file, title in CHARTS.items())
        blocks: dict[str, str | None] = {
            "summary": summary_markdown(pd.read_csv(results)),
            "comparison": table.read_text(encoding="utf-8"),
            "audit": page_blocks.describe_audit(audit, audit["published_protocol"]),
            "chart": chart,
            "cost": cost,
            "split": page_blocks.describe_split(_link(page, split_file), sizes),
            **{f"tuning {search}": None for search in params.searches},
        }
        for search in found:
            outcome = (TUNING / f"{search}.md").read_text(encoding="utf-8")
            picture = _picture(page, DOCS / f"tuning/{search}.png", f"Outcome of {search}")
            blocks[f"tuning {search}"] = page_blocks.describe_search(outcome, picture)
        filled[page] = page_blocks.fill_blocks(str(page), page.read_text(encoding="utf-8"), blocks)
    write_csv(split_file, split)
    record = record_file(name or source)
    write_record(record, params, params.runs)
    copied = {DOCS / file.name: file for file in charts}
    copied |= {DOCS / "tuning" / f"{s}.png": TUNING / f"{s}.png" for s in found}
    for target, origin in copied.items():
        with atomic_write(target) as partial:
            shutil.copyfile(origin, partial)
    for page, text in filled.items():
        with atomic_write(page) as partial:
            partial.write_text(text, encoding="utf-8")
    print(f"publish: {', '.join(map(str, [*pages, *copied, split_file, record]))}")


def _link(page: Path, file: Path) -> str:
    return Path(os.path.relpath(file, page.parent)).as_posix()


def _picture(page: Path, file: Path, title: str) -> str:
    return f"![{title}]({_link(page, file)})"
