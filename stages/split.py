"""Stage split: each cropped image in one of train, val and test, and the published lists."""

from itertools import compress

import numpy as np
import pandas as pd

from stages.core import paths
from stages.core.errors import UserError
from stages.core.files import write_csv, write_json
from stages.core.params import load_params
from stages.core.stage import run_stage
from stages.dataset.split_files import DROPPED, FOLD, SPLITS
from stages.faces.index import read_cropped, read_crops
from stages.faces.labels import age_group, date_in
from stages.identity.people import count_people, group_people, similar_pairs
from stages.splitting.duplicates import group_duplicates
from stages.splitting.lists import published_lists
from stages.splitting.stratified import Related, count_duplicates, count_strata, divide


def main() -> None:
    """Split, stratified by age group, gender and race; copies stay together; then count."""
    params = load_params()
    split, seed = params.split, params.seed
    faces, crops = read_cropped(paths.INDEX), read_crops(paths.CROPS)
    duplicates = group_duplicates(crops, **split.duplicates.model_dump())
    age_groups = age_group(faces["age"], params.classes.age_upper_bounds)
    strata = list(zip(age_groups, faces["gender"], faces["race"], strict=True))
    fractions = {name: getattr(split, name) for name in SPLITS}
    copies, together = duplicates.groups, duplicates.groups
    table = pd.DataFrame({"name": faces["name"], "group": copies})
    if split.identity == "group":
        pairs = similar_pairs(
            np.load(paths.EMBEDDINGS, allow_pickle=False), split.identity_similarity
        )
        together = group_people(copies, pairs)
        table["person"] = together
    rules = (fractions, split.conflicting, split.folds, seed)
    series = None
    if split.folds_by == "date":
        series = pd.factorize(faces["name"].map(date_in))[0]
    result = divide(strata, together, *rules, Related(copies, series))
    if split.folds and series is not None and result.fold.nunique() < split.folds:
        days = f"the images are of {series.max() + 1} days"
        fault = f"split.folds: {split.folds} folds need more days of the crawl than there are"
        raise UserError(f"{fault}: {days}; set a smaller number, or split.folds_by=picture")
    table.insert(1, "split", result.split)
    listed = table.assign(age=faces["age"], gender=faces["gender"], race=faces["race"])
    listed = listed[result.conflicting].sort_values("group", kind="stable")
    write_csv(paths.CONFLICTING, listed[["group", "name", "age", "gender", "race", "split"]])
    write_csv(paths.SPLIT, table)
    # A separate file, so that another number of folds does not rerun what depends on the split.
    write_csv(paths.FOLDS, pd.DataFrame({"name": faces["name"], FOLD: result.fold}).dropna())
    write_csv(paths.PUBLISHED_LISTS, published_lists(faces["name"], seed))
    sizes = {name: int((result.split == name).sum()) for name in (*SPLITS, DROPPED)}
    used = list(compress(strata, result.split != DROPPED))
    counts = count_duplicates(duplicates, strata, result.conflicting)
    if split.identity == "group":
        counts |= count_people(together, copies)
    write_json(paths.SPLIT_METRICS, {**sizes, **counts, **count_strata(used, len(SPLITS))})
    print("split: " + ", ".join(f"{n} {name}" for name, n in sizes.items()))


if __name__ == "__main__":
    run_stage(main)
