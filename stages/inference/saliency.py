"""Saliency maps: how much each pixel of a face supports a predicted class.

- Keras networks: Grad-CAM (Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391, equations 1
  and 2) on the last feature maps before pooling. The score is the logarithm of the probability.
- ONNX and TFLite networks, which have no gradients, and averages: occlusion (Zeiler and Fergus
  2014, https://arxiv.org/abs/1311.2901, section 4.2): how much the probability decreases if a patch
  is covered with the face's mean colour.
"""

import cv2
import numpy as np
import numpy.typing as npt

from stages.networks.prediction import BATCH_SIZE, Network, predict_rows
from stages.raw.images import Pixels

Heat = npt.NDArray[np.float32]


def heat_of(network: Network, crop: Pixels, task: str, class_index: int) -> Heat:
    """How much each pixel of a crop supports a class of a task: float32 (size, size) in [0, 1]."""
    # An average has no feature maps of its own, the other formats no layers at all.
    has_maps = any(layer.name == "pooled" for layer in getattr(network, "layers", ()))
    heat = (grad_cam if has_maps else occlusion)(network, crop, task, class_index)
    heat = np.maximum(heat, 0)
    top = float(heat.max())
    return (heat / top if top > 0 else heat).astype(np.float32)


def grad_cam(network: Network, crop: Pixels, task: str, class_index: int) -> Heat:
    """Grad-CAM: (height, width), >= 0, without unit."""
    import keras
    import tensorflow as tf

    assert isinstance(network, keras.Model)
    maps = network.get_layer("pooled").input
    both = keras.Model(network.input, [maps, network.output[task]])
    with tf.GradientTape() as tape:
        values, probabilities = both(crop[None], training=False)
        score = tf.math.log(probabilities[0, class_index] + keras.config.epsilon())
    weights = tf.reduce_mean(tape.gradient(score, values), axis=(1, 2))  # equation 1
    heat = tf.nn.relu(tf.einsum("bhwc,bc->hw", values, weights))  # equation 2
    size = (crop.shape[1], crop.shape[0])
    return np.asarray(cv2.resize(heat.numpy(), size, interpolation=cv2.INTER_LINEAR))


def occlusion(network: Network, crop: Pixels, task: str, class_index: int) -> Heat:
    """The mean decrease of the class's probability while a pixel is covered: (height, width)."""
    size = crop.shape[0]
    patch, stride = size // 4, max(1, size // 8)
    starts = sorted({*range(0, size - patch, stride), size - patch})
    places = [(y, x) for y in starts for x in starts]
    images = np.repeat(crop[None], len(places) + 1, axis=0)
    for image, (y, x) in zip(images[1:], places, strict=True):
        image[y : y + patch, x : x + patch] = crop.mean(axis=(0, 1))
    outputs = predict_rows(network, images, np.arange(len(images)), BATCH_SIZE)
    whole, *covered = outputs[task][:, class_index]
    decreases, counts = np.zeros((2, size, size), np.float32)
    for (y, x), probability in zip(places, covered, strict=True):
        decreases[y : y + patch, x : x + patch] += whole - probability
        counts[y : y + patch, x : x + patch] += 1
    return decreases / counts


def overlay(crop: Pixels, heat: Heat) -> Pixels:
    """The crop under its saliency map, dark to yellow: uint8 RGB (height, width, 3)."""
    colours = cv2.applyColorMap(np.uint8(heat * 255), cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.asarray(0.5 * crop + 0.5 * colours, np.uint8)
