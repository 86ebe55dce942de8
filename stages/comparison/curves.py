"""Learning curves of several variants in one table, for one plot.

DVCLive writes a .tsv for each figure of each variant, which would be dozens of plots. Here they
become rows: variant, epoch (from 1), figure (as `age accuracy`), side
(`train` or `val`) and value.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.core.errors import UserError

COLUMNS = ("variant", "epoch", "figure", "side", "value")


def collect_curves(folder: Path, variants: Sequence[str]) -> pd.DataFrame:
    """Gather what DVCLive wrote under <folder>/<variant>/plots/metrics/<side>/<figure>.tsv.

    Args:
        folder: of the variants' curve folders; those of variants not named are not read.
        variants: names, in the order of the rows.

    Raises:
        UserError: a variant has no curves.
    """
    tables = []
    for variant in variants:
        metrics = folder / variant / "plots" / "metrics"
        files = sorted(metrics.glob("*/*.tsv"))
        if not files:
            raise UserError(f"{metrics}: no curves; run `dvc repro train@{variant}`")
        for file in files:
            curve = pd.read_csv(file, sep="\t")
            rows = {
                "variant": variant,
                "epoch": curve["step"] + 1,
                "figure": file.stem.replace("_", " "),
                "side": file.parent.name,
                "value": curve[file.stem],
            }
            tables.append(pd.DataFrame(rows, columns=list(COLUMNS)))
    return pd.concat(tables, ignore_index=True)
