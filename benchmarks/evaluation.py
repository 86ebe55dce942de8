"""Evaluation against the forward pass alone: predictions, metrics, intervals, tables.

Ours is what the stage evaluate does with the test images: predict, write the predictions, read
them, score them with bootstrap intervals, subgroups and calibration, write all tables. The
validation predictions, which calibration needs, are there before. The smallest network is the
hardest case.

    python -m benchmarks.evaluation --archive UTKFace.tar.gz
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.faces import Faces, add_archive, cut_faces
from benchmarks.side_by_side import compare, make_parser, print_report, prove, take_turns
from benchmarks.training import make_task
from stages.core.files import write_csv
from stages.core.params import Params, load_params
from stages.core.sections import TASKS
from stages.core.stage import run_stage
from stages.evaluation.evaluate import evaluate_files
from stages.evaluation.predictions import prediction_table, read_predictions
from stages.networks import device

BATCH_SIZE = 64
AGE = 30  # years; only networks that tell years are scored by it


def main() -> None:
    """Prove, time, print."""
    parser = make_parser(__doc__)
    add_archive(parser, 2000)
    parser.add_argument("--variant", default="mtl-cnn", help="of params.yaml")
    arguments = parser.parse_args()
    params = load_params()
    device.prepare(params.machine.device, seed=1)
    faces = cut_faces(arguments.archive, arguments.images, params)
    with tempfile.TemporaryDirectory() as folder:
        sides = Sides(params, arguments.variant, faces, Path(folder))
        sides.evaluate()  # compiles
        proven = sides.prove()
        seconds = take_turns(
            {"evaluate": sides.evaluate, "forward": sides.predict, "score": sides.score},
            arguments.rounds,
        )
    lines = [
        compare("all / forward pass", seconds["evaluate"], seconds["forward"], "s", at_most=2.0),
        compare("scoring / forward pass", seconds["score"], seconds["forward"], "s"),
    ]
    print_report(arguments, proven, lines)


class Sides:
    """Both on the same network, of random weights, and the same images."""

    def __init__(self, params: Params, variant: str, faces: Faces, folder: Path) -> None:
        self.model = make_task(params, variant, faces, epochs=1, real=False).network()
        self.faces, self.folder = faces, folder
        self.classes = {task: params.classes.of(task) for task in TASKS}
        self.params = params
        self.split = pd.DataFrame({"name": faces.names, "group": np.arange(len(faces.names))})
        self.test, self.val = folder / "test.csv", folder / "val.csv"
        self.outputs = self.predict()
        write_csv(self.val, self.table())

    def predict(self) -> dict[str, np.ndarray]:
        """The forward pass."""
        from stages.networks.prediction import predict_rows

        rows = np.arange(len(self.faces.crops))
        return predict_rows(self.model, self.faces.crops, rows, BATCH_SIZE)

    def table(self) -> pd.DataFrame:
        """What the stage writes of the outputs."""
        ages = np.full(len(self.faces.names), AGE)
        return prediction_table(
            self.faces.names, self.faces.labels, self.outputs, self.classes, ages
        )

    def score(self) -> None:
        """Everything after the forward pass."""
        write_csv(self.test, self.table())
        found = evaluate_files(self.test, self.val, self.split, self.params)
        found.write(self.folder / "details")

    def evaluate(self) -> None:
        """All of it."""
        self.outputs = self.predict()
        self.score()

    def prove(self) -> list[str]:
        """That what is scored is what the forward pass gave."""
        outputs, scored = self.predict(), read_predictions(self.test, self.classes)
        apart = max(float(np.abs(scored.probabilities[t] - outputs[t]).max()) for t in scored.tasks)
        return [prove(apart <= 1e-4, f"scored probabilities within {apart:.1e} of the network's")]


if __name__ == "__main__":
    run_stage(main)
