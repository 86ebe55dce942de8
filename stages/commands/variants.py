"""Every known variant as CSV on standard output: `utkface-mtl variants`.

Columns: name, tasks, backbone, weights, trainable, heads, trainable_params, total_params, gflops
(floating-point operations for one image in one forward pass, in 10^9).

The last three stand in variants.csv beside this module, with a digest of the structure that they
were measured on. A structure that is not there is built, which needs TensorFlow and takes a second;
`--measure` builds all and writes the file anew. No weights file is needed.
"""

import argparse
import csv
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

from stages.core.files import atomic_write
from stages.core.params import load_params
from stages.core.variants import NetworkSpec
from stages.runs.resolve import resolve

MEASURED = Path(__file__).with_name("variants.csv")
FACTS = ("tasks", "backbone", "weights", "trainable", "heads")
COSTS = ("trainable_params", "total_params", "gflops")

Rows = dict[str, dict[str, str]]  # costs as text, by digest


def main() -> None:
    """Print what each variant of variants.toml is and costs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", action="store_true", help="build all, and keep what they cost")
    anew = parser.parse_args().measure
    params = load_params()
    specs = {name: resolve(params, name).network for name in params.variants}
    known = {} if anew else read_measured()
    known |= measure([spec for spec in specs.values() if digest_of(spec) not in known])
    if anew:
        with atomic_write(MEASURED) as partial, partial.open("w", encoding="utf-8") as file:
            table = csv.DictWriter(file, ["structure", *COSTS], lineterminator="\n")
            table.writeheader()
            table.writerows({"structure": key, **known[key]} for key in sorted(known))
    table = csv.DictWriter(sys.stdout, ["name", *FACTS, *COSTS], lineterminator="\n")
    table.writeheader()
    for name, variant in params.variants.items():
        facts = {fact: getattr(variant, fact) for fact in FACTS}
        table.writerow({"name": name, **facts, **known[digest_of(specs[name])]})


def digest_of(spec: NetworkSpec) -> str:
    """The digest of a structure; learning settings are not part of it."""
    return hashlib.sha256(spec.model_dump_json().encode()).hexdigest()[:16]


def read_measured() -> Rows:
    """The costs of the structures that are known, by their digests."""
    with MEASURED.open(encoding="utf-8", newline="") as file:
        return {row.pop("structure"): row for row in csv.DictReader(file)}


def measure(specs: Iterable[NetworkSpec]) -> Rows:
    """Build networks and measure them; TensorFlow is needed where there are any."""
    found: Rows = {}
    for spec in specs:
        from stages.networks import device

        device.prepare(device="cpu")
        from stages.evaluation.costs import count_parameters, gflops
        from stages.networks.network import build_network

        model = build_network(spec)
        costs = (*count_parameters(model), f"{gflops(model):.4g}")
        found[digest_of(spec)] = dict(zip(COSTS, map(str, costs), strict=True))
    return found
