"""The list of variants: printed without building what is known, and known is what is true."""

import csv
import io
import subprocess
import sys
from pathlib import Path

from stages.commands import variants
from stages.core.params import load_params
from stages.runs.resolve import resolve

TOP = Path(__file__).parents[2]


def test_every_structure_is_known_so_that_nothing_is_built():
    params, known = load_params(TOP / "params.yaml"), variants.read_measured()
    specs = {name: resolve(params, name).network for name in params.variants}
    missing = [name for name, spec in specs.items() if variants.digest_of(spec) not in known]
    assert not missing, "run `utkface-mtl variants --measure`"
    assert len(known) == len({variants.digest_of(spec) for spec in specs.values()})


def test_what_is_known_is_what_a_network_costs():
    params, known = load_params(TOP / "params.yaml"), variants.read_measured()
    specs = [resolve(params, name).network for name in ("mtl-cnn-ge-am", "mtl-mobilenet-tuned")]
    assert variants.measure(specs) == {key: known[key] for key in map(variants.digest_of, specs)}


def test_the_command_prints_them_all_without_tensorflow():
    code = (
        "import sys, runpy; sys.modules |= dict.fromkeys(('tensorflow', 'keras', 'pandas')); "
        "sys.argv = ['utkface-mtl', 'variants']; "
        "runpy.run_module('stages.commands', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TOP, text=True, capture_output=True, check=True
    )
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["name"] for row in rows] == list(load_params(TOP / "params.yaml").variants)
    block5 = next(row for row in rows if row["name"] == "mtl-vgg16-imagenet-block5")
    assert (block5["total_params"], block5["heads"]) == ("14913228", "plain")
