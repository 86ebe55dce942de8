"""Costs of a network: parameters, file size, and operations of an image and of a training."""

import math
from pathlib import Path

import keras
import tensorflow as tf

from stages.core.variants import Training
from stages.networks.network import at_size, split_frozen


def count_parameters(model: keras.Model) -> tuple[int, int]:
    """The numbers of trainable and of all weights, including those of batch normalisation."""
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return trainable, model.count_params()


def gflops(model: keras.Model) -> float:
    """10^9 floating-point operations (additions, multiplications) of one image's forward pass."""
    signature = tf.TensorSpec((1, *model.input.shape[1:]), model.input.dtype)
    graph = tf.function(lambda x: model(x, training=False)).get_concrete_function(signature).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    tf.get_logger().setLevel("ERROR")  # each call warns of its deprecation
    found = tf.compat.v1.profiler.profile(graph, options=options)
    return float(found.total_float_ops) / 1e9


def costs_of(model: keras.Model, file: Path) -> dict[str, float]:
    """Parameters, trainable_parameters, megabytes (10^6 bytes of its file) and gflops."""
    trainable, total = count_parameters(model)
    return {
        "parameters": total,
        "trainable_parameters": trainable,
        "megabytes": round(file.stat().st_size / 1e6, 3),
        "gflops": round(gflops(model), 6),
    }


def training_costs(
    model: keras.Model, train: int, val: int, training: Training
) -> dict[str, float]:
    """The operations of a training on `train` and `val` images, independent of the machine.

    A training step counts as three forward passes of the trainable part, as in
    https://openai.com/index/ai-and-compute/. The frozen part runs once for each image, or in each
    epoch if images are augmented, mixed or small. The keys, in 10^12 floating-point operations, are
    those of costs.json in docs/reference/files.md.
    """
    parts = split_frozen(model)
    epochs, size = training.progressive_epochs, training.progressive_size
    frozen, learning = (0.0, gflops(model)) if parts is None else map(gflops, parts)
    once, epoch = frozen * (train + val), learning * (3 * train + val)
    if training.augmentation is not None or training.mixup or epochs:
        once, epoch = 0.0, epoch + once
    costs = {"training_tflop_once": round(once / 1e3, 6)}
    costs["training_tflop_epoch"] = round(epoch / 1e3, 6)
    if epochs:
        small_frozen = 0.0 if parts is None else gflops(at_size(parts[0], size))
        small_learning = gflops(at_size(model, size)) - small_frozen
        cost = (3 * small_learning + small_frozen) * train + (small_learning + small_frozen) * val
        costs["progressive_epochs"] = epochs
        costs["training_tflop_progressive_epoch"] = round(cost / 1e3, 6)
    return costs
