"""Face embeddings: vectors that are close if two crops show one person.

They are the pooled features of a MobileNet that learnt to tell people apart (VGGFace2), whitened.
The features also tell age and gender, which whitening weighs down: Jégou and Chum 2012, Negative
Evidences and Co-occurrences in Image Retrieval (ECCV), section 3.
"""

from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tqdm import tqdm

from stages.core.variants import NetworkSpec
from stages.networks.backbones import build_backbone
from stages.networks.prediction import BATCH_SIZE

SIDE = 160  # pixels that the network sees; it learnt from 224, at twice the cost
DIMENSIONS = 512
IMAGES_PER_DIMENSION = 4  # fewer would whiten chance


def embed(crops: npt.NDArray[np.uint8], weights_file: Path) -> npt.NDArray[np.float16]:
    """Embed crops, uint8 RGB (N, size, size, 3): (N, D) of unit length, D at most `DIMENSIONS`."""
    size = int(crops.shape[1])
    spec = NetworkSpec(
        backbone="mobilenet",
        weights="vggface2",
        trainable="none",
        preprocessing="native",
        classes={},
        size=size,
        input_side=max(SIDE, size),
    )
    network = tf.function(build_backbone(spec, weights_file))
    starts = range(0, len(crops), BATCH_SIZE)
    features = np.empty((len(crops), int(network.python_function.output.shape[-1])), np.float32)
    for start in tqdm(starts, "embedding", unit="batch", disable=None):
        batch = np.ascontiguousarray(crops[start : start + BATCH_SIZE])
        values = keras.ops.cast(network(batch, training=False), "float32")
        features[start : start + BATCH_SIZE] = values
    return whiten(features)


def whiten(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """Whiten features (N, F) by their own principal components, to unit length (N, D)."""
    dimensions = max(1, min(DIMENSIONS, features.shape[1], len(features) // IMAGES_PER_DIMENSION))
    centred = features - features.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred / len(features))
    kept = slice(None, -dimensions - 1, -1)  # eigh sorts upwards
    scale = np.sqrt(np.maximum(variances[kept], np.finfo(np.float32).eps))
    vectors = centred @ directions[:, kept] / scale
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(length, np.finfo(np.float32).eps)).astype(np.float16)
