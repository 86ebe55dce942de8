"""Stage lists: what each run trains on, validates with and is tested on, in data/lists/.

A training depends on its own list and not on split.csv, so that more folds or runs rerun nothing.
"""

from stages.core.files import read_csv, remove_others, write_csv
from stages.core.params import load_params
from stages.core.paths import CONFLICTING, FOLDS, LISTS, PUBLISHED_LISTS, SPLIT, RunPaths
from stages.core.run_names import RunName
from stages.core.stage import run_stage
from stages.dataset.split_files import CONFLICT, FOLD, SPLITS, read_folds, read_lists, read_split
from stages.splitting.lists import lists_of


def main() -> None:
    """Write the list of each run, and remove those of others."""
    params = load_params()
    split, published = read_split(SPLIT), read_lists(PUBLISHED_LISTS)
    pictures = read_csv(CONFLICTING, ["group", "name"], "split", dtype={"name": "str"})
    pictures = pictures[["name", "group"]].rename(columns={"group": CONFLICT})
    pictures[CONFLICT] = pictures[CONFLICT].astype("Int64")
    split[FOLD] = read_folds(FOLDS, split["name"])
    for run in params.evaluated:
        # The members of an average are all tested on the same images.
        average = params.known_averages.get(run)
        name = RunName.parse(average.members[0] if average else run)
        table = lists_of(name, split, published).astype(dict.fromkeys(SPLITS, int))
        write_csv(RunPaths(run).lists, table.merge(pictures, on="name", how="left"))
    remove_others(LISTS, [RunPaths(run).lists for run in params.evaluated])
    print(f"lists: {', '.join(params.evaluated)}")


if __name__ == "__main__":
    run_stage(main)
