"""All runs side by side as tables: for the report, as Markdown, and in the terminal."""

import textwrap
from collections.abc import Mapping, Sequence

import pandas as pd

from stages.comparison.table import FIGURES, FOLDS, KINDS, SEEDS
from stages.core.run_names import PUBLISHED_SPLIT
from stages.core.sections import TASKS
from stages.reporting.tables import (
    EMPTY,
    TASK_TITLES,
    WIDTH,
    Cell,
    Table,
    count,
    crossed,
    make_table,
    share,
)

TITLES = {"accuracy": "Accuracy", "macro_f1": "Macro F1"}
NOTE = (
    "Published: as printed, under a protocol that trained on most of its test images. Rerun: "
    "trained and tested here under that protocol. Honest: tested on images that were never "
    "trained on{}. Native: native pixels, with "
    "the difference to the variant. Rows of several seeds or folds show mean ± standard "
    "deviation. All values are in [0, 1]."
)
ABOVE = "†"  # marks a published accuracy above what wrong labels allow
_LEAKAGE_TITLES = {
    "seen_share": "share seen",
    "seen_accuracy": "accuracy on seen",
    "unseen_accuracy": "on the others",
    "rerun_accuracy": "together: rerun",
    "expected_accuracy": "with honest for the others",
    "honest_accuracy": "honest",
}

Column = tuple[str, str, str]  # task, figure, kind


def columns_of(comparison: pd.DataFrame, figure: str, tasks: Sequence[str] = TASKS) -> list[Column]:
    """The columns of a figure, task by task, without kinds that no run has."""
    names = {k: [f"{prefix}{task}_{figure}" for task in TASKS] for k, prefix in KINDS.items()}
    kinds = [kind for kind in KINDS if comparison[names[kind]].notna().any(axis=None)]
    return [(task, figure, kind) for task in tasks for kind in kinds]


def row_name(row: pd.Series) -> str:
    """The variant of a row of the comparison and, after a comma, its condition."""
    variant, _, condition = str(row["variant"]).partition("+")
    several = f"{row['runs']} " if condition in (SEEDS, FOLDS) else ""
    return variant + (f", {several}{condition}" if condition else "")


def figure_cell(row: pd.Series, column: Column) -> Cell:
    """A figure of a row; an honest one with its deviation, interval and difference.

    A published one above the ceiling of wrong labels is marked.
    """
    task, figure, kind = column
    name = f"{task}_{figure}"
    value = row[KINDS[kind] + name]
    if pd.isna(value):
        return Cell(EMPTY)
    text, asides = share(value), []
    if kind == "published" and value > row.get(f"ceiling_{name}", 1.0):
        text += f" {ABOVE}"
    if kind == "honest":
        if pd.notna(deviation := row[f"sd_{name}"]):
            text += f" ± {deviation:.3f}"
        if pd.notna(low := row.get(f"low_{name}")):
            asides.append(f"[{low:.3f}, {row[f'high_{name}']:.3f}]")
        if pd.notna(difference := row[f"difference_{name}"]):
            asides.append(f"({difference:+.3f})")
    return Cell(text, float(value), " ".join(asides))


def _cells(row: pd.Series, columns: Sequence[Column]) -> list[Cell]:
    """The epochs of a row, if the comparison has them, and these figures."""
    cells = [figure_cell(row, column) for column in columns]
    if "epochs" in row:
        text = EMPTY if pd.isna(row["epochs"]) else str(row["epochs"])
        if pd.notna(rerun := row["rerun_epochs"]) and rerun != row["epochs"]:
            text += f" (rerun {rerun})"
        cells.insert(0, Cell(text))
    return cells


def comparison_markdown(comparison: pd.DataFrame) -> str:
    """A Markdown table for each task that a run has, with a note on the columns."""
    parts = []
    for task in TASKS:
        columns = [c for figure in FIGURES for c in columns_of(comparison, figure, [task])]
        names = [f"{KINDS[kind]}{task}_{figure}" for _, figure, kind in columns]
        header = ["epochs"] if "epochs" in comparison else []
        header += [f"{figure.replace('_f1', ' F1')} {kind}" for _, figure, kind in columns]
        rows = []
        for _, row in comparison[comparison[names].notna().any(axis=1)].iterrows():
            variant, comma, condition = row_name(row).partition(",")
            rows.append([Cell(f"`{variant}`{comma}{condition}"), *_cells(row, columns)])
        if rows:
            parts.append(crossed("", TASK_TITLES[task], header, rows).as_markdown())
    single = comparison[~comparison["variant"].str.endswith(f"+{FOLDS}")]
    images = ", ".join(f"{int(n):,}" for n in sorted(set(single["images"])))
    note = NOTE.format(", with the bootstrap interval over the test images")
    return "\n\n".join([*parts, f"Measured on {images} test images. {note}"]) + "\n"


def untrained_markdown(
    comparison: pd.DataFrame, published: pd.DataFrame, weights: Mapping[str, str]
) -> str:
    """The published variants without a row in the comparison, in Markdown; empty if all have one.

    `published` has columns <task>_accuracy; `weights` has the key in `pretrained` of the weights of
    each variant in variants.toml, or an empty text.
    """
    known = published[published.index.isin(list(weights))]
    missing = known[~known.index.isin(comparison["variant"])]
    if missing.empty:
        return ""
    rows = []
    for variant, row in missing.iterrows():
        figures = [row[f"{task}_accuracy"] for task in TASKS]
        cells = [Cell(EMPTY if pd.isna(figure) else share(figure)) for figure in figures]
        rows.append([Cell(f"`{variant}`"), *cells, Cell(weights[str(variant)] or EMPTY)])
    header = [*(f"{TASK_TITLES[task].lower()}, published" for task in TASKS), "weights"]
    table = crossed("", "not trained here", header, rows).as_markdown()
    return (
        "\n`utkface-mtl suite queue <variant>` and `utkface-mtl tune run` fill in a row; weights "
        f"that cannot be downloaded are given as a file, in section `pretrained`.\n\n{table}\n"
    )


def summary_markdown(comparison: pd.DataFrame) -> str:
    """For each task, in Markdown, the two best by published and the two by honest accuracy."""
    variants = comparison[~comparison["variant"].str.contains("+", regex=False)]
    rows = []
    for task in TASKS:
        honest, published = f"{task}_accuracy", f"published_{task}_accuracy"
        ranked = [variants.dropna(subset=name).nlargest(2, name) for name in (published, honest)]
        chosen = pd.concat(ranked).drop_duplicates("variant").sort_values(honest, ascending=False)
        for _, row in chosen.iterrows():
            figures = [figure_cell(row, (task, "accuracy", kind)) for kind in KINDS]
            rows.append([Cell(TASK_TITLES[task]), Cell(f"`{row['variant']}`"), *figures])
    return crossed("", "task", ["variant", *KINDS], rows).as_markdown()


def comparison_table(comparison: pd.DataFrame, figure: str) -> Table:
    """All runs side by side: the published, rerun and honest `accuracy` or `macro_f1`."""
    columns, shown = columns_of(comparison, figure), comparison.drop(columns="epochs")
    rows = [[Cell(row_name(row)), *_cells(row, columns)] for _, row in shown.iterrows()]
    return crossed(TITLES[figure], "variant", [f"{t} {kind}" for t, _, kind in columns], rows)


def print_comparison(comparison: pd.DataFrame, costs: pd.DataFrame) -> None:
    """Print the accuracies, a table for each task, and what each run costs; at most WIDTH wide.

    `costs` has the columns variant, parameters, gflops (of one image) and seconds (of training).
    """
    for task in TASKS:
        columns = columns_of(comparison, "accuracy", [task])
        names = [f"{KINDS[kind]}{task}_accuracy" for _, _, kind in columns]
        header = ["epochs"] * ("epochs" in comparison) + [kind for _, _, kind in columns]
        rows = comparison[comparison[names].notna().any(axis=1)]
        cells = [[Cell(row_name(row)), *_cells(row, columns)] for _, row in rows.iterrows()]
        if cells:
            print(crossed("", TASK_TITLES[task], header, cells).as_text(), end="\n\n")
    formats = {"parameters": count, "gflops": "{:.3f}".format, "seconds": count}
    titles = {"variant": "Cost", "gflops": "GFLOPs", "seconds": "seconds"}
    shown = costs.loc[~costs["variant"].str.endswith(PUBLISHED_SPLIT), ["variant", *formats]]
    print(make_table("", shown, formats, titles).as_text(), end="\n\n")
    print_paragraph(NOTE.format(", with the bootstrap interval over the test images"))


def print_paragraph(text: str) -> None:
    """Print Markdown text without a table, broken at WIDTH."""
    for line in text.strip().splitlines():
        print(textwrap.fill(line, WIDTH, break_on_hyphens=False, subsequent_indent="  "))


def noise_markdown(noise: pd.DataFrame, published: pd.DataFrame) -> str:
    """What wrong labels allow, and how many published accuracies exceed it; empty if not known.

    `published` has a row for each published variant, with columns <task>_accuracy.
    """
    if noise.empty:
        return ""
    first = noise.iloc[0]
    parts, above = [], []
    for fields in noise.to_dict("records"):
        task, wrong = TASK_TITLES[fields["task"]].lower(), fields["wrong"]
        known = published[f"{fields['task']}_accuracy"].dropna()
        parts.append(f"{task} {wrong:.1%} [{fields['low']:.1%}, {fields['high']:.1%}]")
        if len(known):
            surely = (known > 1 - fields["low"]).sum()
            above.append(f"{(known > 1 - wrong).sum()} ({surely}) of {len(known)} in {task}")
    ceilings = ", ".join(f"{1 - wrong:.3f}" for wrong in noise["wrong"])
    exceeding = (
        f" Published accuracies above it ({ABOVE}; in brackets, above the whole interval): "
        f"{'; '.join(above)}."
    ) * bool(above)
    return (
        f"\nWrong labels set a ceiling: {first['groups']:,.0f} pictures have copies "
        f"({first['images']:,.0f} images), and where copies disagree at least one label is wrong. "
        f"Counted so, the share of wrong labels is {', '.join(parts)}. An honest accuracy above "
        f"{ceilings} is not to be expected (dashed line); copies may be labelled worse than the "
        f"rest.{exceeding}\n"
    )


def baselines_markdown(baselines: pd.DataFrame) -> str:
    """What the name of an image tells without a pixel, as a sentence; empty if not known."""
    if baselines.empty:
        return ""
    parts = [
        f"{row['baseline']} {', '.join(share(row[task]) for task in TASKS)}"
        for row in baselines.to_dict("records")
    ]
    return (
        "\nWithout a pixel, guessing the commonest class of the training images that were crawled "
        f"at the same time has these accuracies (age group, gender, race): {'; '.join(parts)}. A "
        "network may recognise such a series; folds by date (`split.folds_by`) leave it out.\n"
    )


def contrast_table(contrasts: pd.DataFrame) -> Table:
    """The planned comparisons, a row for each task."""
    number = "{:+.3f}".format
    rows = contrasts.to_dict("records")
    shown = contrasts.assign(
        seeds=[f"{row['seeds_a']}, {row['seeds_b']}" for row in rows],
        interval=[f"[{row['low']:+.3f}, {row['high']:+.3f}]" for row in rows],
    )
    columns = ["contrast", "task", "seeds", "difference", "interval", "p_holm", "verdict"]
    formats = {"difference": number, "p_holm": "{:.3f}".format}
    return make_table("Contrasts", shown[columns], formats, {"p_holm": "p, corrected"})


def leakage_table(leakage: pd.DataFrame) -> Table:
    """Accuracy under the published protocol, split into its parts."""
    formats = {**dict.fromkeys(_LEAKAGE_TITLES, share), "images": "{:,}".format}
    return make_table("Accuracy under the published protocol", leakage, formats, _LEAKAGE_TITLES)


def leakage_markdown(leakage: pd.DataFrame) -> str:
    """The arithmetic in words and a table of all variants; empty without a rerun."""
    if leakage.empty:
        return ""
    shown = leakage[["variant", "task", *_LEAKAGE_TITLES]]
    table = leakage_table(shown.assign(variant="`" + shown["variant"] + "`")).as_markdown()
    return f"\n{describe_leakage(leakage)}\n\n{table}\n"


def describe_leakage(leakage: pd.DataFrame) -> str:
    """The arithmetic of the published protocol in Markdown, with the largest leakage as example."""
    row = leakage.iloc[int((leakage["rerun_accuracy"] - leakage["honest_accuracy"]).argmax())]
    seen = row["seen_share"]

    def total(other: str, result: str) -> str:
        terms = ((seen, row["seen_accuracy"]), (1 - seen, row[other]))
        products = " + ".join(f"{part:.3f} × {value:.3f}" for part, value in terms if part)
        return f"{products} = {row[result]:.3f}"

    return (
        f"Under the published protocol, accuracy is share seen × accuracy on the test images that "
        f"were trained on + share unseen × accuracy on the others; `{row['variant']}` in "
        f"{row['task']} was trained on {seen:.1%} of its {row['images']:,} test images: "
        f"{total('unseen_accuracy', 'rerun_accuracy')}. With its honest accuracy, "
        f"{row['honest_accuracy']:.3f}, for the others the sum is "
        f"{total('honest_accuracy', 'expected_accuracy')}: what the honest accuracy lacks is the "
        f"score on memorised images."
    )
