"""Where in a face a model looked: how much each pixel spoke for a class.

- Keras networks: Grad-CAM (Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391, equations 1
  and 2) on the last maps before pooling. The networks end in a softmax, so the score is the
  logarithm of the class's probability.
- Others, which give no gradients: occlusion (Zeiler and Fergus 2014,
  https://arxiv.org/abs/1311.2901, section 4.2): how far the probability falls when a patch is
  covered with the face's mean colour.

A map shows what moved this model's answer, not why a person is what the class says.
"""

import cv2
import numpy as np
import numpy.typing as npt

from stages.dataset.images import Pixels
from stages.inference.models import OnnxNetwork, TfliteNetwork
from stages.networks.prediction import BATCH_SIZE, Network, predict_rows

Heat = npt.NDArray[np.float32]

PATCH, STRIDE = 4, 8  # the patch is a quarter of the side, and moves by an eighth
OPACITY = 0.5


def heat_of(network: Network, crop: Pixels, task: str, chosen: int) -> Heat:
    """How much each pixel spoke for a class: float32 (height, width) in [0, 1].

    Args:
        network: of a model.
        crop: uint8 RGB (size, size, 3).
        task: one that the network answers.
        chosen: index of the class.
    """
    covered = isinstance(network, (OnnxNetwork, TfliteNetwork))
    heat = (occlusion if covered else grad_cam)(network, crop, task, chosen)
    heat = np.maximum(heat, 0)
    top = float(heat.max())
    return (heat / top if top > 0 else heat).astype(np.float32)


def grad_cam(network: Network, crop: Pixels, task: str, chosen: int) -> Heat:
    """Grad-CAM, (height, width), >= 0, in no unit."""
    import keras
    import tensorflow as tf

    assert isinstance(network, keras.Model)
    maps = network.get_layer("pooled").input
    both = keras.Model(network.input, [maps, network.output[task]])
    with tf.GradientTape() as tape:
        values, probabilities = both(crop[None], training=False)
        score = tf.math.log(probabilities[0, chosen] + keras.config.epsilon())
    weights = tf.reduce_mean(tape.gradient(score, values), axis=(1, 2))  # equation 1
    heat = tf.nn.relu(tf.einsum("bhwc,bc->hw", values, weights))  # equation 2
    size = (crop.shape[1], crop.shape[0])
    return np.asarray(cv2.resize(heat.numpy(), size, interpolation=cv2.INTER_LINEAR))


def occlusion(network: Network, crop: Pixels, task: str, chosen: int) -> Heat:
    """The mean fall of the class's probability where a pixel was covered, (height, width)."""
    side = crop.shape[0]
    patch, stride = side // PATCH, max(1, side // STRIDE)
    starts = sorted({*range(0, side - patch, stride), side - patch})
    places = [(y, x) for y in starts for x in starts]
    images = np.repeat(crop[None], len(places) + 1, axis=0)
    for image, (y, x) in zip(images[1:], places, strict=True):
        image[y : y + patch, x : x + patch] = crop.mean(axis=(0, 1))
    found = predict_rows(network, images, np.arange(len(images)), BATCH_SIZE)[task][:, chosen]
    falls, times = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
    for (y, x), probability in zip(places, found[1:], strict=True):
        falls[y : y + patch, x : x + patch] += found[0] - probability
        times[y : y + patch, x : x + patch] += 1
    return falls / times


def overlay(crop: Pixels, heat: Heat) -> Pixels:
    """The crop under its heat, dark to yellow: uint8 RGB (height, width, 3)."""
    colours = cv2.applyColorMap(np.uint8(heat * 255), cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.asarray((1 - OPACITY) * crop + OPACITY * colours, np.uint8)
