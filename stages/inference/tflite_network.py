"""A network in a TFLite file, run by LiteRT (package ai-edge-litert)."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.core.errors import UserError
from stages.formats.untrusted import LARGEST
from stages.networks.device import silenced_stderr


class TfliteNetwork:
    """A network in a TFLite file, used like a Keras model; not thread-safe."""

    def __init__(self, path: Path) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise UserError(f"{path}: needs {error.name}: pip install ai-edge-litert") from None
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path}: more than {LARGEST} bytes")
        self.path = path
        try:
            with silenced_stderr():  # it prints the name of its delegate
                self.interpreter = Interpreter(str(path), num_threads=os.cpu_count())
                # Others are what loops and branches call: a loop may never end.
                if (graphs := self.interpreter.num_subgraphs()) != 1:
                    raise ValueError(f"has {graphs} graphs, where no export has a second one")
                self.run = self.interpreter.get_signature_runner()
            outputs = self.run.get_output_details()
            self.classes = {name: int(about["shape"][-1]) for name, about in outputs.items()}
            if kinds := {about["dtype"] for about in outputs.values()} - {np.float32}:
                raise ValueError(f"gives {kinds}, not float32")
            self.size = int(self.run.get_input_details()["image"]["shape"][1])
            # Fails here on operations of TensorFlow, which could write files.
            with silenced_stderr():
                self.run(image=np.zeros((1, self.size, self.size, 3), np.uint8))
        except (ValueError, RuntimeError, KeyError, IndexError) as error:
            raise UserError(f"{path}: not a TFLite file that can be run: {error}") from error

    def predict_on_batch(self, x: npt.NDArray[np.uint8], /) -> dict[str, npt.NDArray[np.float32]]:
        """Outputs by task, (M, classes), for uint8 images (M, size, size, 3)."""
        try:
            with silenced_stderr():
                return dict(self.run(image=x))
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{self.path}: cannot be run: {error}") from error
