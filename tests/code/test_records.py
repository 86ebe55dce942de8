"""Records: what outsiders recompute figures from; whole, without places, never over other work."""

import hashlib
import io
import shutil
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from stages.commands import forget
from stages.core.errors import UserError
from stages.core.files import write_csv, write_json
from stages.core.params import load_params
from stages.publishing import records
from stages.publishing.records import files_of, mentions, restore, write_record

TOP = Path(__file__).parents[2]
RUNS = ("mtl-cnn", "mtl-cnn+seed-2")
RECORD = Path("docs/results/faces.tar.xz")


@pytest.fixture
def params(tmp_path, monkeypatch):
    """A workspace of two runs whose archive lies in a folder that is nobody's business."""
    monkeypatch.chdir(tmp_path)
    text = (TOP / "params.yaml").read_text()
    for old, new in (
        ("source: demo", "source: local"),
        ("local: []", "local: [/home/me/faces.zip, /home/me]"),
        ("vgg16-imagenet: auto", "vgg16-imagenet: /mnt/weights.h5"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    Path("params.yaml").write_text(text)
    shutil.copy(TOP / "variants.toml", ".")
    write_json(Path("metrics/detect.json"), {"total": 2})
    write_json(Path("metrics/split.json"), {"train": 2})
    write_json(Path("metrics/audit.json"), {"leaks": 0})
    split = pd.DataFrame({"name": ["a.jpg", "b.jpg"], "split": ["train", "test"], "group": [0, 1]})
    write_csv(Path("data/split/split.csv"), split)
    write_csv(Path("data/split/conflicting.csv"), split[:0])
    for run in RUNS:
        write_json(Path(f"metrics/{run}.json"), {"of": run})
        write_json(Path(f"data/training/{run}.json"), {"epoch": 3})
        write_csv(Path(f"data/predictions/{run}.csv"), split)
        write_csv(Path(f"data/predictions/{run}.val.csv"), split)
        write_csv(Path(f"data/curves/{run}/train/loss.tsv"), split)
        write_csv(Path(f"data/evaluation/{run}/scores.csv"), split)
        write_csv(Path(f"models/{run}/images.csv"), split)
        write_json(Path(f"models/{run}/preprocessor_config.json"), {"margin": 0.2})
        Path(f"models/{run}/model.keras").write_bytes(b"a network")
    return load_params()


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_record_has_all_that_the_runs_left_but_their_networks(params):
    write_record(RECORD, params, RUNS)
    number = restore(RECORD, Path("again"))
    restored = contents(Path("again"))
    assert number == len(restored) == 7 + 2 * 8
    assert not [name for name in restored if name.endswith(".keras")]
    for name, content in restored.items():
        if name != "params.yaml":
            assert content == Path(name).read_bytes()


def test_a_record_has_one_run_where_one_is_asked_for(params):
    write_record(RECORD, params, RUNS[:1])
    restore(RECORD, Path("again"))
    assert not list(Path("again").rglob("*seed-2*"))
    assert set(files_of("mtl-cnn")) == {
        *(Path(f"data/predictions/mtl-cnn{suffix}") for suffix in (".csv", ".val.csv")),
        *(Path("data/curves/mtl-cnn/train/loss.tsv"), Path("data/evaluation/mtl-cnn/scores.csv")),
        *(Path("data/training/mtl-cnn.json"), Path("metrics/mtl-cnn.json")),
        *(Path("models/mtl-cnn/preprocessor_config.json"), Path("models/mtl-cnn/images.csv")),
    }


def test_params_are_kept_without_the_folders_of_the_machine(params):
    write_record(RECORD, params, RUNS)
    restore(RECORD, Path("again"))
    text = Path("again/params.yaml").read_text()
    assert "local: [faces.zip, me]" in text
    assert "vgg16-imagenet: weights.h5 #" in text
    assert "/home" not in text
    assert "/mnt" not in text
    assert load_params(Path("again/params.yaml")).runs == params.runs


def test_equal_files_make_equal_records(params):
    write_record(RECORD, params, RUNS)
    first = hashlib.sha256(RECORD.read_bytes()).hexdigest()
    Path("metrics/mtl-cnn.json").touch()
    write_record(RECORD, params, RUNS)
    assert hashlib.sha256(RECORD.read_bytes()).hexdigest() == first


def test_without_a_split_there_is_no_record(params):
    Path("data/split/split.csv").unlink()
    with pytest.raises(UserError, match=r"split\.csv: missing; run `dvc repro`"):
        write_record(RECORD, params, RUNS)
    assert not RECORD.exists()


def test_a_folder_that_holds_something_is_not_written_to(params):
    write_record(RECORD, params, RUNS)
    before = contents(Path("metrics"))
    with pytest.raises(UserError, match="metrics: is not empty; name a new folder"):
        restore(RECORD, Path("metrics"))
    assert contents(Path("metrics")) == before


def test_a_record_that_is_missing_or_damaged_is_named(params):
    with pytest.raises(UserError, match=r"faces\.tar\.xz: missing; there are: none"):
        restore(RECORD, Path("again"))
    write_record(RECORD, params, RUNS)
    RECORD.with_name("cut.tar.xz").write_bytes(RECORD.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"cut\.tar\.xz: cannot be unpacked"):
        restore(RECORD.with_name("cut.tar.xz"), Path("again"))
    with pytest.raises(UserError, match=r"other\.tar\.xz: missing; there are: cut.*, faces"):
        restore(RECORD.with_name("other.tar.xz"), Path("again"))


def test_a_damaged_byte_leaves_nothing_half_unpacked(params):
    write_record(RECORD, params, RUNS)
    whole = RECORD.read_bytes()
    for place in range(8, len(whole) * 3 // 4, 97):
        damaged = bytearray(whole)
        damaged[place] ^= 255
        RECORD.write_bytes(damaged)
        with pytest.raises(UserError, match=r"faces\.tar\.xz: cannot be unpacked"):
            restore(RECORD, Path("again"))
        with pytest.raises(UserError, match=r"faces\.tar\.xz: damaged"):
            mentions(RECORD, ["no such image"])
    assert not Path("again").exists()
    assert not list(Path().glob(".*"))
    RECORD.write_bytes(whole)
    Path("again").mkdir()
    restore(RECORD, Path("again"))
    assert Path("again/params.yaml").is_file()


def test_a_record_is_not_unpacked_over_the_current_folder(params, monkeypatch, tmp_path):
    write_record(RECORD, params, RUNS)
    record = RECORD.absolute()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new").mkdir()
    monkeypatch.chdir("new")
    with pytest.raises(UserError, match="new: is the current folder; name a new one"):
        restore(record, Path())


def planted(name: str, kind: bytes = tarfile.REGTYPE, size: int = 1) -> Path:
    path = Path("planted.tar.xz")
    with tarfile.open(path, "w:xz") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.size, entry.linkname = kind, size, "/etc/passwd"
        archive.addfile(entry, io.BytesIO(bytes(size)))
    return path


@pytest.mark.parametrize(
    ("name", "kind", "fault"),
    [
        ("../outside.csv", tarfile.REGTYPE, "cannot be unpacked"),
        ("link", tarfile.SYMTYPE, "'link' is no file"),
        ("pipe", tarfile.FIFOTYPE, "'pipe' is no file"),
    ],
)
def test_a_record_of_a_stranger_writes_nothing_elsewhere(tmp_path, monkeypatch, name, kind, fault):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=fault):
        restore(planted(name, kind), Path("again"))
    assert not Path("outside.csv").exists()
    assert not list(Path().glob("again/*"))


def test_a_record_that_would_fill_the_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(records, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match="unpacks to more than 1000 bytes"):
        restore(planted("large.csv", size=1001), Path("again"))
    assert not list(Path().glob("again/*"))


def test_forgetting_tells_which_published_files_name_the_image(params):
    write_record(RECORD, params, RUNS)
    split = Path("docs/splits/faces.csv")
    write_csv(split, pd.read_csv("data/split/split.csv"))
    assert forget.published(["b.jpg"]) == [split, RECORD]
    assert forget.published(["c.jpg"]) == []


@pytest.mark.parametrize("record", sorted((TOP / "docs/results").glob("*.tar.xz")), ids=str)
def test_a_committed_record_is_read_by_this_version(record: Path, tmp_path: Path):
    restore(record, tmp_path / "restored")
    params = load_params(tmp_path / "restored/params.yaml")
    for run in params.runs:
        assert (tmp_path / "restored/metrics" / f"{run}.json").is_file()
