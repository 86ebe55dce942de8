"""Stage report: all results as a page, report/index.html, and as model cards."""

import pandas as pd

from stages.core.files import atomic_write, remove_others
from stages.core.params import Params, load_params
from stages.core.paths import CARDS, FACES, REPORT, SPLIT
from stages.core.sections import TASKS
from stages.core.stage import run_stage
from stages.dataset.split_files import read_split
from stages.faces.index import read_cropped, read_crops
from stages.faces.labels import age_group
from stages.reporting.cards import render_card
from stages.reporting.report import render_report
from stages.reporting.results import read_results


def main() -> None:
    """Read the results of the other stages; write the page and the cards."""
    params = load_params()
    samples = read_samples(params)
    crops = read_crops(FACES / "crops.npy") if params.shows_pictures else None
    results = read_results(params)
    page = render_report(results, samples, crops, params)
    cards = {
        CARDS / f"{variant}.md": render_card(variant, results, samples, params)
        for variant in params.run_variants
    }
    for path, text in (cards | {REPORT: page}).items():
        with atomic_write(path) as partial:
            partial.write_text(text, encoding="utf-8")
    remove_others(CARDS, list(cards))
    shown = "with pictures" if params.shows_pictures else "without pictures"
    size, number = len(page.encode()) / 1e6, f"{len(cards)} model card{'s' * (len(cards) != 1)}"
    print(f"report: {REPORT}, {size:.1f} MB, {shown}; {number}")


def read_samples(params: Params) -> pd.DataFrame:
    """A row for each crop: name, years, the class of each task, split and group."""
    faces, split = read_cropped(FACES / "index.csv"), read_split(SPLIT)
    samples = pd.DataFrame({"name": faces["name"], "years": faces["age"].astype("int64")})
    for task in TASKS:
        codes = faces[task].to_numpy("int64")
        if task == "age":
            codes = age_group(codes, params.classes.age_upper_bounds)
        samples[task] = pd.Categorical.from_codes(codes, pd.Index(params.classes.of(task)), True)
    return samples.merge(split[["name", "split", "group"]], on="name", how="left", validate="1:1")


if __name__ == "__main__":
    run_stage(main)
