"""A byte that flips on the disk: stages refuse it, `verify` finds it, `dvc repro` mends it."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import call
from stage_processes import make_workspace

from stages.commands.verify import outs
from stages.core.errors import UserError
from stages.core.files import CHECKSUMS, check_digest, digest, write_checksums
from stages.faces.index import read_crops

TOP = Path(__file__).parents[2]
WORKFLOW = """\
stages:
  one:
    cmd: python -c "open('one.bin', 'wb').write(bytes(range(200)))"
    outs: [one.bin]
  many:
    cmd: >-
      python -c "import os; os.makedirs('many/in');
      [open(f'many/in/{i}.bin', 'wb').write(bytes([i] * 100)) for i in range(3)]"
    deps: [one.bin]
    outs: [many]
"""


def flip(path: Path, place: int = 50) -> None:
    """Change a byte as a bad disk does: time and mode stay."""
    state = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(place)
        value = file.read(1)[0]
        file.seek(place)
        file.write(bytes([value ^ 1]))
    path.chmod(state.st_mode)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with the outputs of two stages, hard-linked to DVC's cache."""
    for command in ("git init -q", "dvc init -q", "dvc config cache.type hardlink"):
        call(tmp_path, *command.split())
    (tmp_path / "dvc.yaml").write_text(WORKFLOW)
    call(tmp_path, "dvc", "repro")
    return tmp_path


def verify(project: Path, fails: bool = False) -> str:
    return call(project, sys.executable, "-m", "stages.commands", "verify", fails=fails)


@pytest.mark.parametrize("output", ["one.bin", "many/in/1.bin"])
def test_a_flipped_byte_is_removed_everywhere_and_made_again(
    output: str, project: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHONPATH", str(TOP))
    path = project / output
    whole = path.read_bytes()
    assert "6 files of the cache, 2 outputs, 0 damaged" in verify(project)
    assert path.stat().st_nlink > 1
    flip(path)
    # DVC itself sees nothing.
    assert "up to date" in call(project, "dvc", "status")
    told = verify(project, fails=True)
    assert f"damaged, removed: {output.split('/')[0]}\n" in told
    assert "run `dvc repro`" in told
    assert not path.exists()
    call(project, "dvc", "repro")
    assert path.read_bytes() == whole
    assert "0 damaged" in verify(project)


@pytest.mark.parametrize("place", [0, 8, 60, 120])
def test_a_flipped_byte_in_the_run_cache_is_found(
    place: int, project: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHONPATH", str(TOP))
    entry = next((project / ".dvc/cache/runs").glob("??/*/*"))
    flip(entry, place)
    told = verify(project, fails=True)
    assert f"damaged, removed: {entry.resolve()}" in told
    assert not entry.exists()
    call(project, "dvc", "repro", "--force")
    assert "6 files of the cache, 2 outputs, 0 damaged" in verify(project)


def test_what_is_no_file_in_the_cache_is_damaged_too(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHONPATH", str(TOP))
    folder = project / ".dvc/cache/files/md5/ab"
    folder.mkdir()
    (folder / ("0" * 30)).symlink_to("nowhere")
    os.mkfifo(folder / ("1" * 30))
    assert "8 files of the cache, 2 outputs, 2 damaged" in verify(project, fails=True)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"[]", b"stages: 3", b"{", b"\xff\xfe", b"stages: {a: {outs: [{path: x}]}}"],
)
def test_a_damaged_lock_file_is_one_line(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_bytes(content)
    with pytest.raises(UserError, match=r"^dvc\.lock: damaged .*; run `git checkout dvc\.lock`$"):
        outs()


def test_stages_refuse_crops_of_other_bytes_than_detect_wrote(tmp_path: Path):
    np.save(tmp_path / "crops.npy", np.zeros((2, 32, 32, 3), np.uint8))
    write_checksums(tmp_path)
    assert len(read_crops(tmp_path / "crops.npy")) == 2
    assert call(tmp_path, "sha256sum", "--check", CHECKSUMS) == "crops.npy: OK\n"
    with (tmp_path / "crops.npy").open("r+b") as file:
        file.seek(500)
        file.write(b"\x01")
    with pytest.raises(UserError, match=r"crops\.npy: damaged, .* run `utkface-mtl verify`"):
        read_crops(tmp_path / "crops.npy")
    for damaged in (b"", b"garbage", b"\xff\xfe\0"):
        (tmp_path / CHECKSUMS).write_bytes(damaged)
        with pytest.raises(UserError, match=r"SHA256SUMS: damaged, it does not list crops\.npy"):
            read_crops(tmp_path / "crops.npy")


@pytest.mark.parametrize("file", ["pretrained/retinaface-mobilenet0.25.onnx", "raw/demo.tar"])
def test_detect_refuses_what_pretrained_and_download_did_not_write(
    file: str, mobilenet_weights: Path, tmp_path: Path
):
    workspace = make_workspace(tmp_path / "workspace", mobilenet_weights)
    for stage in ("download", "plan", "pretrained"):
        workspace.run(stage)
    path = workspace.folder / "data" / file
    call(path.parent, "sha256sum", "--check", "--strict", CHECKSUMS)
    flip(path, path.stat().st_size // 2)
    told = workspace.run("detect", fails=True)
    (line,) = told.splitlines()
    assert line.startswith(f"error: data/{file}: damaged, its SHA-256 is not")
    assert "run `utkface-mtl verify`" in line
    flip(path, path.stat().st_size // 2)
    assert "cropped" in workspace.run("detect")


def test_a_network_of_other_bytes_than_its_provenance_says_is_refused(tmp_path: Path):
    (tmp_path / "model.keras").write_bytes(b"a network")
    check_digest(tmp_path / "model.keras", digest(tmp_path / "model.keras"))
    (tmp_path / "provenance.json").write_text('{"model.keras": "00"}')
    from stages.networks.network import load_network

    with pytest.raises(UserError, match=r"model\.keras: damaged, .* run `utkface-mtl verify`"):
        load_network(tmp_path / "model.keras")
