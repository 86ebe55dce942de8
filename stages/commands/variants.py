"""Every known variant as CSV on standard output: `utkface-mtl variants`.

Columns: name, tasks, backbone, weights, trainable, heads, trainable_params, total_params, gflops
(floating-point operations for one image in one forward pass, in 10^9). Only the structure is
built; no weights file is needed.
"""

import argparse
import sys

import pandas as pd
from tqdm import tqdm

from stages.core.params import load_params
from stages.networks import device
from stages.runs.resolve import resolve

FACTS = ("tasks", "backbone", "weights", "trainable", "heads")


def main() -> None:
    """Build each variant of params.yaml and print what it is and costs."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    params = load_params()
    device.prepare(device="cpu")
    from stages.evaluation.costs import count_parameters, gflops
    from stages.networks.network import build_network

    rows = []
    for name, variant in tqdm(params.variants.items(), unit="variant", disable=None):
        model = build_network(resolve(params, name).network)
        trainable, total = count_parameters(model)
        facts = {fact: getattr(variant, fact) for fact in FACTS}
        costs = {"trainable_params": trainable, "total_params": total, "gflops": gflops(model)}
        rows.append({"name": name} | facts | costs)
    pd.DataFrame(rows).to_csv(sys.stdout, index=False, float_format="%.4g")
