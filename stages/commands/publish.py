"""Fill the figures into README.md and docs/: `utkface-mtl publish`, or `make publish`.

Reads the results of the last run: data/comparison/, metrics/audit.json, data/split/split.csv and
the tables of searches, data/tuning/*.csv. Writes docs/leak.svg, docs/contrasts.svg, docs/cost.svg,
docs/tuning/, docs/splits/<name>.csv (names and splits, no images), docs/results/<name>.tar.xz (all
that the runs left except networks and images) and, in the pages, the blocks `summary`,
`comparison`, `contrasts`, `chart`, `contrast chart`, `cost`, `audit`, `split` and `tuning
<search>`. A search without a table keeps its block. With --record-only it writes the record alone:
of results under another split, say, which the pages quote and do not show as a whole.
"""

import argparse
import os
import shutil
from pathlib import Path

import pandas as pd

from stages.core.errors import UserError
from stages.core.files import atomic_write, read_json, write_csv
from stages.core.params import Params, load_params
from stages.core.paths import AUDIT_METRICS, COMPARISON, DOCS, PUBLISHED_SPLITS, SPLIT
from stages.dataset.split_files import SPLITS, read_split
from stages.publishing.page_blocks import describe_audit, describe_split, fill_blocks
from stages.publishing.records import record_file, write_record
from stages.reporting.comparison_tables import contrast_table, summary_markdown
from stages.reporting.results import read_searches
from stages.reporting.search_pages import draw_search, search_markdown

CHARTS = {
    "chart": ("leak.svg", "Published, rerun and honest accuracy of each variant"),
    "contrast chart": ("contrasts.svg", "Differences of the contrasts, by task"),
    "cost": (
        "cost.svg",
        "Validation accuracy of each variant over the cost of its training, by task",
    ),
}


def main() -> None:
    """Refuse the demo, copy pictures and split, fill the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", help="of split file and record; default: data.source")
    words = "write docs/results/<name>.tar.xz and nothing else"
    parser.add_argument("--record-only", action="store_true", help=words)
    arguments = parser.parse_args()
    params = load_params()
    source = params.data.source
    if source == "demo":
        raise UserError(
            "data.source is demo: scores on drawn portraits stand for nothing and are not published"
        )
    name = arguments.name or source
    record = record_file(name)
    if arguments.record_only:
        write_record(record, params, params.evaluated)
        print(f"publish: {record}")
    else:
        publish_all(params, name, record)


def publish_all(params: Params, name: str, record: Path) -> None:
    """Write split, record and charts, and fill the pages."""
    charts = [file for file, _ in CHARTS.values()]
    tables = [
        COMPARISON / file for file in ("comparison.md", "comparison.csv", "contrasts.csv", *charts)
    ]
    for file in (*tables, AUDIT_METRICS, SPLIT):
        if not file.is_file():
            raise UserError(f"{file}: missing; run `dvc repro`")
    split = read_split(SPLIT)
    split_file = PUBLISHED_SPLITS / f"{name}.csv"
    contrasts = pd.read_csv(COMPARISON / "contrasts.csv")
    texts: dict[str, str | None] = {
        "summary": summary_markdown(pd.read_csv(COMPARISON / "comparison.csv")),
        "comparison": (COMPARISON / "comparison.md").read_text(encoding="utf-8"),
        "contrasts": contrast_table(contrasts).as_markdown() if len(contrasts) else "",
        "audit": describe_audit(read_json(AUDIT_METRICS, "audit")),
    }
    searches = read_searches(params)
    outcomes = {s: search_markdown(t, params.searches[s], s) for s, t in searches.items()}
    sizes = {name: int((split["split"] == name).sum()) for name in SPLITS}
    filled = {}
    for page in (Path("README.md"), *sorted(DOCS.glob("*.md"))):
        blocks = texts | {"split": describe_split(_link(page, split_file), sizes)}
        for block, (chart, text) in CHARTS.items():
            blocks[block] = f"![{text}]({_link(page, DOCS / chart)})"
        blocks |= dict.fromkeys(f"tuning {search}" for search in params.searches)
        for search, text in outcomes.items():
            blocks[f"tuning {search}"] = _search_block(page, search, text)
        filled[page] = fill_blocks(str(page), page.read_text(encoding="utf-8"), blocks)
    write_csv(split_file, split)
    write_record(record, params, params.evaluated)
    copied = {DOCS / file: COMPARISON / file for file in charts}
    for target, origin in copied.items():
        with atomic_write(target) as partial:
            shutil.copyfile(origin, partial)
    for search, table in searches.items():
        draw_search(table, params.searches[search], search, _picture(search))
    for page, text in filled.items():
        with atomic_write(page) as partial:
            partial.write_text(text, encoding="utf-8")
    written = [*filled, *copied, *map(_picture, searches), split_file, record]
    print(f"publish: {', '.join(map(str, written))}")


def _link(page: Path, file: Path) -> str:
    return Path(os.path.relpath(file, page.parent)).as_posix()


def _picture(search: str) -> Path:
    return DOCS / "tuning" / f"{search}.png"


def _search_block(page: Path, search: str, text: str) -> str:
    """The page of a search without its title, and its picture."""
    text = text.split("\n", 1)[1].strip()
    return f"{text}\n\n![Outcome of {search}]({_link(page, _picture(search))})"
