"""Fill the figures into README.md and docs/: `python -m stages.publish`, or `make publish`.

Takes the last run's results: data/comparison/, metrics/audit.json and data/split/split.csv.
Writes docs/leak.svg, docs/splits/<name>.csv (names and splits, no image) and, in the pages, the
blocks `comparison`, `chart`, `audit` and `split`. It is no node: nothing depends on the pages.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

from stages.faces.stratification import SPLITS, read_split
from stages.reporting.pages import describe_audit, describe_split, fill_blocks
from stages.workspace.errors import UserError, run_node
from stages.workspace.files import whole_file, write_csv
from stages.workspace.params import load_params

COMPARISON = Path("data/comparison")
AUDIT = Path("metrics/audit.json")
SPLIT = Path("data/split/split.csv")
CHART = Path("docs/leak.svg")
CAPTION = "Published, rerun and honest accuracy of each variant"


def main() -> None:
    """Refuse the demo, copy chart and split, fill the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", help="of the split file; default: data.source")
    name = parser.parse_args().name
    source = load_params().data.source
    if source == "demo":
        raise UserError(
            "data.source is demo: scores on drawn portraits stand for nothing and are not published"
        )
    for file in (COMPARISON / "comparison.md", COMPARISON / "leak.svg", AUDIT, SPLIT):
        if not file.is_file():
            raise UserError(f"{file}: missing; run `dvc repro`")
    split_file = Path("docs/splits") / f"{name or source}.csv"
    split = read_split(SPLIT)
    sizes = {name: int((split["split"] == name).sum()) for name in SPLITS}
    audit = json.loads(AUDIT.read_text(encoding="utf-8"))
    pages = [Path("README.md"), *sorted(Path("docs").glob("*.md"))]
    filled = {}
    for page in pages:
        chart, names = (
            Path(os.path.relpath(file, page.parent)).as_posix() for file in (CHART, split_file)
        )
        blocks = {
            "comparison": (COMPARISON / "comparison.md").read_text(encoding="utf-8"),
            "chart": f"![{CAPTION}]({chart})",
            "audit": describe_audit(audit, audit["published_protocol"]),
            "split": describe_split(names, sizes),
        }
        filled[page] = fill_blocks(str(page), page.read_text(encoding="utf-8"), blocks)
    write_csv(split_file, split)
    with whole_file(CHART) as partial:
        shutil.copyfile(COMPARISON / "leak.svg", partial)
    for page, text in filled.items():
        with whole_file(page) as partial:
            partial.write_text(text, encoding="utf-8")
    print(f"publish: {', '.join(map(str, [*pages, CHART, split_file]))}")


if __name__ == "__main__":
    run_node(main)
