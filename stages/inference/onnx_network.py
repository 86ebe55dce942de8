"""A network in an ONNX file, run by ONNX Runtime: bounded in memory, on request in time."""

import functools
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper
import onnxruntime

from stages.core.errors import UserError, lacks_memory
from stages.detection.detector import providers
from stages.formats.untrusted import OPERATIONS, read_onnx

LARGEST_MEMORY = 4 << 30  # bytes of arrays at work in ONNX files; VGG19 needs 0.5 for 64 images
LEAST_MEMORY = 150 << 20  # bytes, for a session of the released model
PART = 8  # images that a core works on at once


class OnnxNetwork:
    """A network in an ONNX file, used like a Keras model; a `UserError` if it cannot be run.

    `seconds`: how long one call may take; None: as long as it does.
    """

    seconds: float | None = None

    def __init__(self, path: Path, device: str = "auto") -> None:
        self.path = path
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # its errors are raised too
        options.add_session_config_entry("session.use_env_allocators", "1")
        chosen, cores = providers(device), os.cpu_count() or 1
        # On a CPU, cores that work on images of their own are faster than cores that share one.
        self._alone = len(chosen) == 1
        options.intra_op_num_threads = int(self._alone)
        self._workers = ThreadPoolExecutor(cores if self._alone else 1)
        try:
            ask_for_memory()
            _limit_memory()
            graph = widened(read_onnx(path, OPERATIONS)).SerializeToString()
            # Constants folded when the file is opened would be outside of the limit.
            self.session = onnxruntime.InferenceSession(
                graph, options, providers=chosen, disabled_optimizers=["ConstantFolding"]
            )
        except Exception as error:  # onnxruntime's exceptions share no public base class
            if lacks_memory(error):
                raise MemoryError from error
            raise UserError(f"{path}: not an ONNX file that can be run: {error}") from error
        inputs = self.session.get_inputs()
        if [i.name for i in inputs] != ["image"] or len(inputs[0].shape) != 4:
            raise UserError(f"{path}: takes {[i.name for i in inputs]}, not images named `image`")
        if inputs[0].type != "tensor(uint8)":
            raise UserError(f"{path}: takes {inputs[0].type}, not images of type tensor(uint8)")
        self.size = inputs[0].shape[1]
        self.classes: dict[str, int] = {}
        for output in self.session.get_outputs():
            shape = output.shape
            if output.type != "tensor(float)" or len(shape) != 2 or not isinstance(shape[1], int):
                actual = f"{output.type} of shape {shape}"
                raise UserError(f"{path}: gives {actual} as {output.name}, not (images, classes)")
            self.classes[output.name] = shape[1]

    def predict_on_batch(self, x: npt.NDArray[np.uint8], /) -> dict[str, npt.NDArray[np.float32]]:
        """Outputs by task, (M, classes), for uint8 images (M, size, size, 3)."""
        parts = (
            [x[place : place + PART] for place in range(0, len(x), PART)] if self._alone else [x]
        )
        options = onnxruntime.RunOptions()
        try:
            outputs = self._workers.map(
                lambda part: self.session.run(None, {"image": part}, options),
                parts,
                timeout=self.seconds,
            )
            columns = map(np.concatenate, zip(*outputs, strict=True))
            return dict(zip(self.classes, columns, strict=True))
        except MemoryError:
            raise
        except TookTooLong:
            raise UserError(f"{self.path}: took more than {self.seconds:g} s") from None
        except Exception as error:  # of the kinds above
            if "bad_alloc" in str(error):  # within the limit, but this machine has less
                raise MemoryError from error
            memory = f"(it may take {LARGEST_MEMORY >> 30} GiB of memory)"
            reason = str(error).splitlines()[0]
            raise UserError(f"{self.path}: cannot be run {memory}: {reason}") from error
        finally:
            # After Ctrl-C too: what still runs ends with its operation, of which each may be long.
            options.terminate = True


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """Cast in a file what stands in it as constants of half precision; see `release.halve`."""
    graph, kept = model.graph, []
    halves = {
        array.name: array
        for array in graph.initializer
        if array.data_type == onnx.TensorProto.FLOAT16
    }
    for node in graph.node:
        to = [attribute.i for attribute in node.attribute if attribute.name == "to"]
        if node.op_type == "Cast" and to == [onnx.TensorProto.FLOAT] and node.input[0] in halves:
            values = onnx.numpy_helper.to_array(halves[node.input[0]]).astype(np.float32)
            graph.initializer.append(onnx.numpy_helper.from_array(values, node.output[0]))
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    return model


def ask_for_memory() -> None:
    """Raise OSError for lack of memory here: onnxruntime may crash where it lacks some."""
    with mmap.mmap(-1, LEAST_MEMORY):  # not one byte of it is touched
        pass


@functools.cache  # once in a process
def _limit_memory() -> None:
    """Bound what all ONNX sessions that ask for it may allocate: a small file can want anything."""
    kind, purpose = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, purpose)
    limit = onnxruntime.OrtArenaCfg({"max_mem": LARGEST_MEMORY})
    onnxruntime.create_and_register_allocator(memory, limit)
