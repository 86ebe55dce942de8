"""A trained model in other formats, each checked against Keras: `utkface-mtl export <run>`.

Writes into exports/<run>/, and leaves models/ as DVC knows it:

- <run>.onnx, the one file that `predict` and `serve` need, without TensorFlow;
- <run>.float16.tflite and <run>.int8.tflite, the latter calibrated on val images;
- beside each, its name with .json added: how it compares with Keras on the test images;
- preprocessor_config.json, and the detector's weights where the workspace has them.
"""

import argparse
import shutil
from pathlib import Path

from tqdm import tqdm

from stages.core.files import atomic_write, write_json
from stages.core.paths import EXPORTS, FACES, INPUT_SPEC_FILE, MODELS, PRETRAINED, RunPaths
from stages.dataset.examples import read_examples
from stages.inference.exports import FILES, export
from stages.inference.models import open_model
from stages.weights.registry import DETECTORS


def main() -> None:
    """Export the run named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run, or models/<run>")
    parser.add_argument("--formats", nargs="+", choices=FILES, default=list(FILES))
    arguments = parser.parse_args()
    model = open_model(MODELS / Path(arguments.run).name, "cpu")
    folder = EXPORTS / model.name
    spec = model.input_spec
    lists, bounds = RunPaths(model.name).lists, spec.classes.age_upper_bounds
    test, val = (read_examples(FACES, lists, s, spec.tasks, bounds) for s in ("test", "val"))
    same = {}
    for form in tqdm(arguments.formats, "exporting", unit="file", disable=None):
        facts = export(model, form, folder, test, val)
        write_json(folder / f"{facts['file']}.json", facts)
        same[form] = min(facts[task]["agreement"] for task in test.labels)
    write_json(folder / INPUT_SPEC_FILE, spec.model_dump())
    detector = PRETRAINED / DETECTORS[spec.detect.detector].file
    if detector.is_file():
        with atomic_write(folder / detector.name) as partial:
            shutil.copyfile(detector, partial)
    agreement = ", ".join(f"{form} {share:.1%}" for form, share in same.items())
    print(f"export: {folder}: top-1 agreement with Keras (worst task): {agreement}")
