"""Node lists: what each condition trains on, validates with and is tested on, in data/lists/.

A training depends on its own list and not on split.csv, so that more folds or repeats, or a
change of the split that a condition does not follow, rerun nothing that they do not touch.
"""

from pathlib import Path

from stages.core.errors import run_stage
from stages.core.files import remove_others, write_csv
from stages.core.params import load_params
from stages.dataset.image_lists import read_lists
from stages.runs.resolve import LISTS, lists_file
from stages.splitting.lists import condition_lists
from stages.splitting.stratified import FOLD, SPLITS, read_folds, read_split

SPLIT = Path("data/split/split.csv")
FOLDS = Path("data/split/folds.csv")
PUBLISHED = Path("data/split/published.csv")


def main() -> None:
    """Write the lists of the suite and of each repeat, and remove those of others."""
    params = load_params()
    split, published = read_split(SPLIT), read_lists(PUBLISHED)
    split[FOLD] = read_folds(FOLDS, split["name"])
    files = {condition: lists_file(condition) for condition in (None, *params.repeats.conditions)}
    for condition, file in files.items():
        table = condition_lists(condition, split, published)
        write_csv(file, table.astype(dict.fromkeys(SPLITS, int)))
    remove_others(LISTS, list(files.values()))
    print(f"lists: {', '.join(file.stem for file in files.values())}")


if __name__ == "__main__":
    run_stage(main)
