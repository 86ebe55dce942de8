"""TensorFlow for these tests, set up before any of them imports it."""

from stages.learning import device

# Here and not in a fixture: the test modules import Keras when they are collected.
device.prepare(device="cpu", precision="float32", deterministic=True, seed=1)
