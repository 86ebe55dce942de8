"""Two pictures of all variants: what the leak is worth, and what training cost buys."""

import math
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from stages.comparison.table import COLOURS, KINDS
from stages.core.files import atomic_write
from stages.core.sections import TASKS

MARKERS = {"published": "D", "rerun": "s", "honest": "o"}  # told apart by their form too
HEIGHT, WIDTH = 0.28, 9.0  # of a variant's row and of the picture, inches


def draw_leak(path: Path, comparison: pd.DataFrame) -> None:
    """Draw an SVG file, the same bytes for the same comparison.

    Args:
        path: the file.
        comparison: as `compare` gives it; rows of conditions are left out.
    """
    rows = comparison[~comparison["variant"].str.contains("+", regex=False)]
    accuracies = {
        kind: rows[[f"{prefix}{task}_accuracy" for task in TASKS]].set_axis(TASKS, axis=1)
        for kind, prefix in KINDS.items()
    }
    shown = [kind for kind in MARKERS if accuracies[kind].notna().any(axis=None)]
    # Places are compared, not lengths: the axis need not begin at 0, but it is one for all tasks.
    low = min((accuracies[kind].min(axis=None) for kind in shown), default=0.0)
    lowest = max(0.0, math.floor(10 * low - 0.5) / 10)
    places = range(len(rows))
    figure = Figure(figsize=(WIDTH, 1.4 + HEIGHT * len(rows)), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(TASKS), sharey=True), TASKS, strict=True):
        values = pd.DataFrame({kind: accuracies[kind][task] for kind in shown})
        axes.hlines(places, values.min(axis=1), values.max(axis=1), color="#bbbbbb", zorder=1)
        for kind in shown:
            look = {"marker": MARKERS[kind], "color": COLOURS[kind]}
            axes.scatter(values[kind], places, label=kind, s=28, zorder=2, **look)
        axes.set(title=task, xlim=(lowest, 1), xlabel="accuracy", ylim=(len(rows) - 0.5, -0.5))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_yticks(list(places), rows["variant"])
        axes.grid(axis="x", color="#eeeeee")
        axes.set_axisbelow(True)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(MARKERS), frameon=False)
    _save(figure, path)


def draw_cost(path: Path, cost: pd.DataFrame) -> None:
    """Draw each task's accuracy over the cost of training, as an SVG file.

    Args:
        path: the file.
        cost: as `accuracy_over_cost` gives it; runs of conditions are left out.
    """
    rows = cost[~cost["variant"].str.contains("+", regex=False)]
    looks = {
        variant: {
            "color": f"C{number % 10}",
            "linestyle": ("-", "--", ":", "-.")[number // 10 % 4],
            "label": variant,
        }
        for number, variant in enumerate(dict.fromkeys(rows["variant"]))
    }
    figure = Figure(figsize=(WIDTH, 3.6 + 0.19 * -(-len(looks) // 3)), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(TASKS)), TASKS, strict=True):
        for variant, curve in rows[rows["task"] == task].groupby("variant", sort=False):
            axes.plot("tflop", "accuracy", data=curve, marker="o", markersize=3, **looks[variant])
        axes.set(title=task, xscale="log", xlabel="training, 10¹² operations")
        axes.grid(color="#eeeeee")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set(ylabel="accuracy, validation")
    handles = [Line2D([], [], marker="o", markersize=3, **look) for look in looks.values()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    # Without these, names inside the file and its date differ at each drawing.
    with mpl.rc_context({"svg.hashsalt": "utkface-mtl"}), atomic_write(path) as partial:
        figure.savefig(partial, format="svg", metadata={"Date": None})
