"""Crops in many files are read as those in one."""

from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import UserError
from stages.core.files import digest
from stages.detection.forgetting import remove_crops
from stages.faces.index import Row, read_crops, write_faces
from stages.faces.shards import ShardedCrops, write_shards
from stages.splitting.duplicates import group_duplicates

SIZE, NUMBER = 32, 23
CROPS = np.random.default_rng(1).integers(0, 256, (NUMBER, SIZE, SIZE, 3), np.uint8)
CROPS[7] = CROPS[3]
EACH = 5 * CROPS[0].nbytes + 10  # five crops to a file


@pytest.fixture
def sharded(tmp_path: Path) -> ShardedCrops:
    write_shards(CROPS, tmp_path / "crops.npy", EACH)
    return ShardedCrops(tmp_path / "crops.npy")


@pytest.mark.parametrize(
    "key",
    [3, -1, np.int64(22), slice(None), slice(3, 17), slice(20, 99), slice(17, 3, -4)],
    ids=str,
)
def test_rows_are_those_of_the_array(sharded: ShardedCrops, key: object):
    assert np.array_equal(sharded[key], CROPS[key])  # type: ignore[index]


def test_rows_come_in_any_order_and_more_than_once(sharded: ShardedCrops):
    rows = np.array([22, 0, 5, 5, -2, 11])
    assert np.array_equal(sharded[rows], CROPS[rows])
    mask = rows_mask = np.arange(NUMBER) % 3 == 0
    assert np.array_equal(sharded[mask], CROPS[rows_mask])
    assert sharded[rows[:0]].shape == (0, SIZE, SIZE, 3)
    assert np.array_equal(np.stack(list(sharded)), CROPS)
    assert np.array_equal(np.asarray(sharded), CROPS)
    for wrong in (NUMBER, np.array([0, NUMBER]), np.array([-NUMBER - 1])):
        with pytest.raises(IndexError):
            sharded[wrong]


def test_any_zarr_library_reads_the_folder(sharded: ShardedCrops):
    zarr = pytest.importorskip("zarr", reason="NOT TESTED with zarr-python: pip install zarr")
    array = zarr.open_array(sharded.folder, mode="r")
    assert (array.shape, array.chunks) == (CROPS.shape, (5, SIZE, SIZE, 3))
    assert np.array_equal(array[:], CROPS)
    assert len(list((sharded.folder / "c").iterdir())) == 5


def test_the_search_for_copies_finds_the_same(sharded: ShardedCrops):
    found, wanted = (group_duplicates(c, 8, 0.95) for c in (sharded, CROPS))
    assert np.array_equal(found.groups, wanted.groups)
    assert found.pairs.equals(wanted.pairs)
    assert found.groups[7] == found.groups[3]


def write(folder: Path, above: float) -> Path:
    rows = [Row(f"1_0_0_{i}.jpg", "a.tar", "cropped") for i in range(NUMBER)]
    index, crops = folder / "index.csv", folder / "crops.npy"
    write_faces(zip(rows, CROPS, strict=True), index, crops, SIZE, above)
    return crops


def test_above_the_size_it_is_a_folder_and_below_a_file_whatever_was_there(tmp_path: Path):
    for above, folder in ((1e9, False), (CROPS.nbytes / 2, True), (0, True), (1e9, False)):
        crops = write(tmp_path, above)
        assert crops.is_dir() == folder
        assert np.array_equal(read_crops(crops)[:], CROPS)
        assert [path.name for path in sorted(tmp_path.iterdir())] == ["crops.npy", "index.csv"]


@pytest.mark.parametrize("again", [0, 1e9], ids=["shards", "file"])
def test_a_process_killed_while_it_shards_leaves_nothing_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: float
):
    write(tmp_path, 1e9)
    opened = Path.open

    class Killed(BaseException):
        pass

    def kill(path: Path, *arguments: object, **settings: object) -> object:
        if path.match("c/1/0/0/0") or path.name == "zarr.json":
            raise Killed
        return opened(path, *arguments, **settings)

    monkeypatch.setattr(Path, "open", kill)
    with pytest.raises(Killed):
        write(tmp_path, 0)
    monkeypatch.undo()
    assert np.array_equal(read_crops(tmp_path / "crops.npy")[:], CROPS), "the whole file"
    assert np.array_equal(read_crops(write(tmp_path, again))[:], CROPS)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["crops.npy", "index.csv"]


def test_the_digest_of_a_folder_is_that_of_its_content(tmp_path: Path):
    first = digest(write(tmp_path / "a", 0))
    assert first == digest(write(tmp_path / "b", 0))
    file = tmp_path / "b/crops.npy/c/0/0/0/0"
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)
    assert first != digest(tmp_path / "b/crops.npy")


def test_an_image_is_forgotten_from_shards_too(tmp_path: Path):
    crops = write(tmp_path, 0)
    assert remove_crops(["1_0_0_4.jpg"], tmp_path / "index.csv", crops) == 1
    assert np.array_equal(read_crops(crops)[:], np.delete(CROPS, 4, axis=0))


@pytest.mark.parametrize("fault", ["zarr.json", "c/0/0/0/0"])
def test_a_damaged_folder_is_one_clear_error(tmp_path: Path, fault: str):
    crops = write(tmp_path, 0)
    (crops / fault).write_bytes((crops / fault).read_bytes()[:-9])
    with pytest.raises(UserError, match=r"crops\.npy.*dvc repro -f detect"):
        read_crops(crops)
