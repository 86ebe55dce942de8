"""What a network costs: its parameters, its file, and the arithmetic for one image."""

import math
from pathlib import Path

import keras
import tensorflow as tf


def count_parameters(model: keras.Model) -> tuple[int, int]:
    """The numbers of the trainable and of all weights, those of batch normalisation included."""
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return trainable, model.count_params()


def gflops(model: keras.Model) -> float:
    """Floating-point operations for one image in one forward pass, in 10^9.

    Counted by TensorFlow's profiler on the graph: a multiplication and an addition are two.
    """
    signature = tf.TensorSpec((1, *model.input.shape[1:]), model.input.dtype)
    graph = tf.function(lambda x: model(x, training=False)).get_concrete_function(signature).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    tf.get_logger().setLevel("ERROR")  # its deprecation is announced at each call
    found = tf.compat.v1.profiler.profile(graph, options=options)
    return float(found.total_float_ops) / 1e9


def costs_of(model: keras.Model, file: Path) -> dict[str, float]:
    """A trained network's costs: parameters, trainable_parameters, megabytes and gflops.

    Args:
        model: the network.
        file: where it lies; megabytes are its size in 10^6 bytes.
    """
    trainable, total = count_parameters(model)
    return {
        "parameters": total,
        "trainable_parameters": trainable,
        "megabytes": round(file.stat().st_size / 1e6, 3),
        "gflops": round(gflops(model), 6),
    }
