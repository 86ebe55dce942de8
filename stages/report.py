"""Node report: everything that the workflow found, in report/index.html, readable alone."""

from pathlib import Path

import pandas as pd

from stages.faces.index import read_cropped, read_crops
from stages.faces.labels import age_group
from stages.faces.stratification import read_split
from stages.reporting.report import render_report
from stages.reporting.report_pictures import Pictures
from stages.reporting.report_results import read_results
from stages.workspace.errors import run_node
from stages.workspace.files import whole_file
from stages.workspace.params import TASKS, Params, load_params

FACES = Path("data/faces")
SPLIT = Path("data/split/split.csv")
PAGE = Path("report/index.html")


def main() -> None:
    """Read what the other nodes left and write the page."""
    params = load_params()
    people = read_people(params)
    crops = read_crops(FACES / "crops.npy") if params.shows_pictures else None
    pictures = Pictures(people["name"].tolist(), crops)
    page = render_report(read_results(params), people, pictures, params)
    with whole_file(PAGE) as partial:
        partial.write_text(page, encoding="utf-8")
    told = "with pictures" if pictures.shown else "without pictures"
    print(f"report: {PAGE}, {len(page.encode()) / 1e6:.1f} MB, {told}")


def read_people(params: Params) -> pd.DataFrame:
    """A row for each crop: name, years, the class of each task, split and group."""
    faces, split = read_cropped(FACES / "index.csv"), read_split(SPLIT)
    years = faces["age"].astype("int64")
    codes = {
        "age": age_group(years, params.classes.age_upper_bounds),
        "gender": faces["gender"].to_numpy("int64"),
        "race": faces["race"].to_numpy("int64"),
    }
    classes = {
        task: pd.Categorical.from_codes(codes[task], pd.Index(params.classes.of(task)), True)
        for task in TASKS
    }
    people = pd.DataFrame({"name": faces["name"], "years": years, **classes})
    return people.merge(split[["name", "split", "group"]], on="name", how="left", validate="1:1")


if __name__ == "__main__":
    run_node(main)
