"""Embeddings of the real network: copies are close, other faces are not."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.acquisition.portraits import draw_portrait
from stages.core.files import digest, write_json
from stages.core.paths import CROPS, EMBEDDINGS, PRETRAINED, WEIGHTS_OF_EMBEDDINGS
from stages.identity.embeddings import embed, whiten
from stages.weights.registry import BACKBONES, obtain

TOP = Path(__file__).parents[2]
WEIGHTS = BACKBONES["mobilenet", "vggface2"]


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    generator = np.random.default_rng(1)
    faces = [draw_portrait(10 + i, i % 2, i % 5, generator, 100) for i in range(30)]
    worse = cv2.imencode(".jpg", faces[3][2:97, 3:98], [cv2.IMWRITE_JPEG_QUALITY, 40])[1]
    copy = cv2.resize(cv2.imdecode(worse, 1), (100, 100), interpolation=cv2.INTER_CUBIC)
    return np.stack([*faces, copy])


def test_a_cropped_copy_is_closer_than_any_other_face(crops, vggface2_bin: Path, tmp_path: Path):
    file = obtain(WEIGHTS, tmp_path, str(vggface2_bin), "the test")
    vectors = embed(crops, file)
    assert vectors.shape == (31, 7)  # four images for each number
    assert np.linalg.norm(vectors.astype(float), axis=1) == pytest.approx(1, abs=1e-3)
    similarity = vectors.astype(float) @ vectors[-1].astype(float)
    assert similarity[3] > 0.7
    assert np.argsort(similarity)[-2] == 3


def test_whitened_features_have_equal_variances_and_forget_scale():
    chance = np.random.default_rng(1)
    features = (chance.normal(size=(4000, 6)) * [100, 10, 1, 1, 1, 1]).astype(np.float32)
    vectors = whiten(features + 1000).astype(float)
    assert vectors.shape == (4000, 6)
    assert vectors.var(axis=0) == pytest.approx(1 / 6, rel=0.1)


def test_the_stage_embeds_where_weights_are_named_and_else_writes_an_empty_array(
    crops, vggface2_bin: Path, tmp_path: Path
):
    for name in ("params.yaml", "variants.toml"):
        (tmp_path / name).write_bytes((TOP / name).read_bytes())
    (tmp_path / CROPS).parent.mkdir(parents=True)
    np.save(tmp_path / CROPS, crops)
    file = obtain(WEIGHTS, tmp_path / PRETRAINED, str(vggface2_bin), "the test")
    for named, rows in ((None, 0), (file.name, len(crops))):
        known = {"file": named, "sha256": named and digest(file)}
        write_json(tmp_path / WEIGHTS_OF_EMBEDDINGS, known)
        command = [sys.executable, "-m", "stages.embed"]
        environment = {"PYTHONPATH": str(TOP), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        told = f"{rows} embeddings" if rows else "not asked for"
        assert f"embed: {told}" in done.stdout
        assert len(np.load(tmp_path / EMBEDDINGS)) == rows
