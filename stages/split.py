"""Node split: each cropped image in exactly one of train, val and test."""

from pathlib import Path

import pandas as pd

from stages.faces.duplicates import group_identical
from stages.faces.index import read_cropped, read_crops
from stages.faces.labels import age_group
from stages.faces.stratification import SPLITS, stratified_split
from stages.workspace.errors import run_node
from stages.workspace.files import write_csv, write_json
from stages.workspace.params import load_params

FACES = Path("data/faces")
SPLIT = Path("data/split/split.csv")
METRICS = Path("metrics/split.json")


def main() -> None:
    """Stratify on age group x gender x race, keep identical pictures together, deal, count."""
    params = load_params()
    faces = read_cropped(FACES / "index.csv")
    groups = group_identical(read_crops(FACES / "crops.npy"))
    age_groups = age_group(faces["age"], params.classes.age_upper_bounds)
    strata = list(zip(age_groups, faces["gender"], faces["race"], strict=True))
    shares = {name: getattr(params.split, name) for name in SPLITS}
    assigned = stratified_split(strata, groups, shares, params.seed)
    table = pd.DataFrame({"name": faces["name"], "split": assigned.split, "group": groups})
    write_csv(SPLIT, table)
    sizes = {name: int((assigned.split == name).sum()) for name in SPLITS}
    repeated = int((table["group"].value_counts() > 1).sum())
    write_json(
        METRICS,
        {
            **sizes,
            "groups_of_identical_images": repeated,
            "strata": assigned.strata,
            "strata_too_small": assigned.small_strata,
            "images_in_strata_too_small": assigned.images_in_small_strata,
        },
    )
    print("split: " + ", ".join(f"{n} {name}" for name, n in sizes.items()))


if __name__ == "__main__":
    run_node(main)
