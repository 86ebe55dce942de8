"""A trained model in other formats, each checked against Keras: `python -m stages.export <run>`.

Writes into exports/<run>/, and leaves models/ as DVC knows it:

- <run>.onnx, the one file that `predict` and `serve` need, without TensorFlow;
- <run>.float16.tflite and <run>.int8.tflite, the latter calibrated on val images;
- beside each, its name with .json added: how it compares with Keras on the test images;
- faces.json, and the detector's weights where the workspace has them.
"""

import argparse
import shutil
from pathlib import Path

from tqdm import tqdm

from stages.faces.examples import LabelledFaces, read_examples
from stages.inference.exports import FILES, export
from stages.inference.models import EXPORTS, MODELS, PRETRAINED, Model, open_model
from stages.workspace.catalogue import DETECTORS
from stages.workspace.errors import run_node
from stages.workspace.feeding import FEEDING_FILE
from stages.workspace.files import whole_file, write_json
from stages.workspace.plans import lists_file

FACES = Path("data/faces")


def main() -> None:
    """Export the run named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a name under models/")
    parser.add_argument("--formats", nargs="+", choices=FILES, default=list(FILES))
    arguments = parser.parse_args()
    model = open_model(MODELS / arguments.run, "cpu")
    folder = EXPORTS / model.name
    test, val = (_examples(model, side) for side in ("test", "val"))
    same = {}
    for form in tqdm(arguments.formats, "exporting", unit="file", disable=None):
        facts = export(model, form, folder, test, val)
        write_json(folder / f"{facts['file']}.json", facts)
        same[form] = min(facts[task]["agreement"] for task in test.labels)
    write_json(folder / FEEDING_FILE, model.feeding.model_dump())
    detector = PRETRAINED / DETECTORS[model.feeding.detect.detector].file
    if detector.is_file():
        with whole_file(folder / detector.name) as partial:
            shutil.copyfile(detector, partial)
    told = ", ".join(f"{form} {share:.1%}" for form, share in same.items())
    print(f"export: {folder}: the class is Keras's, in the task where least often: {told}")


def _examples(model: Model, side: str) -> LabelledFaces:
    _, _, condition = model.name.partition("+")
    feeding = model.feeding
    return read_examples(
        FACES, lists_file(condition or None), side, feeding.tasks, feeding.classes.age_upper_bounds
    )


if __name__ == "__main__":
    run_node(main)
