"""params.yaml: what is committed loads, and every fault ends as one readable UserError."""

from collections.abc import Callable
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import load_yaml, modify_yaml
from ruamel.yaml import YAML

from stages.core.errors import UserError
from stages.core.params import Params, load_params

COMMITTED = Path(__file__).parents[2] / "params.yaml"
VARIANTS = COMMITTED.with_name("variants.toml")
CNN, GE = "mtl-cnn     ", "mtl-cnn-ge  "  # as the lines of these variants begin

Load = Callable[..., Params]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load the committed params with some lines exchanged, given as (old, new) pairs."""

    def load_edited(*edits: tuple[str, str]) -> Params:
        texts = {file: file.read_text(encoding="utf-8") for file in (COMMITTED, VARIANTS)}
        for old, new in edits:
            # Of variants.toml any part of a line, of params.yaml whole beginnings of lines.
            file = COMMITTED if f"\n{old}" in texts[COMMITTED] else VARIANTS
            place = f"\n{old}" if file == COMMITTED else old
            assert place in texts[file], f"there is no line {old!r} any more"
            changed = f"\n{new}" if file == COMMITTED else new
            texts[file] = texts[file].replace(place, changed, 1)
        for file, text in texts.items():
            (tmp_path / file.name).write_text(text, encoding="utf-8")
        return load_params(tmp_path / COMMITTED.name)

    return load_edited


def test_the_committed_params_load():
    params = load_params(COMMITTED)
    assert set(params.run_variants) <= set(params.variants)
    assert params.variants["mtl-cnn"].task_list == ["age", "gender", "race"]
    assert params.classes.of("gender") == ["male", "female"]
    assert params.pretrained.path("vgg16-imagenet") is None


def test_dvc_reads_them_in_c_and_sees_what_we_see():
    text = COMMITTED.read_text(encoding="utf-8") + "\nodd: [1e-05, yes, 017, 0o17, ~, 1_0]\n"
    fast = YAML(typ="safe")  # as DVC has it
    assert "clib" in fast.Parser.__module__
    assert fast.load(text) == YAML(typ="safe", pure=True).load(text)


def test_a_path_given_by_hand_is_found_under_the_key_of_its_weights(load: Load):
    params = load(("  vgg16-imagenet: auto", "  vgg16-imagenet: /data/vgg16.h5"))
    assert params.pretrained.path("vgg16-imagenet") == "/data/vgg16.h5"


def with_runs(*runs: str) -> tuple[str, str]:
    """The edit that adds runs."""
    return "- mtl-cnn\n", "- mtl-cnn\n" + "".join(f"- {run}\n" for run in runs)


def test_all_suffixes_can_be_asked_for_together(load: Load):
    suffixes = ("native", "seed-2", "published-split", "fold-0", "fold-4+seed-3")
    runs = [f"mtl-cnn+{suffix}" for suffix in suffixes]
    params = load(with_runs(*runs), ("  folds: 0", "  folds: 5"))
    assert params.runs[:6] == ["mtl-cnn", *runs]
    assert params.run_variants[:2] == ["mtl-cnn", "mtl-cnn-ge"]


def test_a_variant_is_one_line_that_dvc_edits_alone(tmp_path: Path):
    path = tmp_path / VARIANTS.name
    path.write_text(VARIANTS.read_text())
    apply_overrides(path, ["mtl-cnn-ge.epochs=5"])
    old, new = VARIANTS.read_text().splitlines(), path.read_text().splitlines()
    (changed,) = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    assert changed == (changed[0], changed[0].replace("epochs = 30", "epochs = 5"))


FAULTS = {
    "an unknown variant": (
        ("- mtl-cnn-ge-gm", "- mtl-cnn-ge-gn"),
        ["runs", "'mtl-cnn-ge-gn'", "did you mean 'mtl-cnn-ge-gm'", "mtl-vgg16-imagenet-block5"],
    ),
    "a variant named twice": (
        ("- mtl-cnn-ge\n", "- mtl-cnn\n"),
        ["runs: 'mtl-cnn' is listed twice"],
    ),
    "a name that leads elsewhere": (
        ("mtl-cnn-ge-am   ", '"../mtl-cnn-ge-am"'),
        ["variants.toml: '../mtl-cnn-ge-am'", "letters, digits, '-' and '_'"],
    ),
    "a name with a dot, which divides keys": (
        ("mtl-cnn-ge-am    ", '"mtl-cnn-ge-v1.5"'),
        ["variants.toml: 'mtl-cnn-ge-v1.5'", "letters, digits, '-' and '_'"],
    ),
    "a seed of a rerun that is not there": (
        ("- mtl-cnn\n", "- mtl-cnn\n- mtl-cnn+published-split+seed-2\n"),
        ["runs: mtl-cnn+published-split+seed-2 needs mtl-cnn+published-split beside it"],
    ),
    "a search that makes images smaller": (
        ("      input_side: [0, 160]", "      input_side: [64]"),
        ["searches.ablation-mobilenet.grid: input_side 64", "at least detect.size, 100"],
    ),
    "a search of what excludes the variant's input side": (
        ("      mixup: [0.0]", "      progressive_fraction: [0.5]"),
        ["searches.ablation-mobilenet.grid: progressive_fraction 0.5", "input_side: must be 0"],
    ),
    "a batch of no image": (
        ("batch_size = 16", "batch_size = 0"),
        ["variants.toml: mtl-cnn.batch_size", "greater than or equal to 1", "is 0"],
    ),
    "a batch that is too large": (
        ("batch_size = 16", "batch_size = 5000"),
        ["variants.toml: mtl-cnn.batch_size", "less than or equal to 4096"],
    ),
    "a suffix that nobody knows": (
        with_runs("mtl-cnn+folds"),
        ["runs: 'mtl-cnn+folds' is not of the form <variant>[+native]"],
    ),
    "a fold without folds": (
        with_runs("mtl-cnn+fold-0"),
        ["runs: mtl-cnn+fold-0: no such fold; set split.folds"],
    ),
    "the seed that the variant has": (
        with_runs("mtl-cnn+seed-1"),
        ["runs: mtl-cnn+seed-1: 1 is the seed of mtl-cnn itself"],
    ),
    "a run without its variant": (
        with_runs("mtl-vgg16-imagenet-full+seed-2"),
        ["runs: mtl-vgg16-imagenet-full+seed-2 needs mtl-vgg16-imagenet-full beside it"],
    ),
    "a native run of a native variant": (
        with_runs("mtl-cnn-tuned", "mtl-cnn-tuned+native"),
        ["runs: mtl-cnn-tuned+native: mtl-cnn-tuned is native itself"],
    ),
    "shares that do not sum to 1": (
        ("  test: 0.1", "  test: 0.2"),
        ["split", "train + val + test", "sum to 1", "1.1"],
    ),
    "small images that are larger than the others": (
        (
            "    progressive_fraction: 0.0\n    progressive_size: 64",
            "    progressive_fraction: 0.5\n    progressive_size: 128",
        ),
        ["recipes.mtl.progressive_size: must be at most detect.size, 100"],
    ),
    "a share of nothing": (("  val: 0.1", "  val: 0"), ["split.val", "greater than 0"]),
    "folds that leave nothing to train on": (
        ("  folds: 0", "  folds: 2"),
        ["split", "folds must be 0 or at least 3"],
    ),
    "no such way to treat conflicting groups": (
        ("  conflicting: train-only", "  conflicting: train"),
        ["split.conflicting", "'keep', 'train-only' or 'drop'"],
    ),
    "a hash of too many different bits": (
        ("    max_bits: 8", "    max_bits: 65"),
        ["split.duplicates.max_bits", "less than or equal to 16"],
    ),
    "a correlation above 1": (
        ("    min_correlation: 0.95", "    min_correlation: 95"),
        ["split.duplicates.min_correlation", "less than or equal to 1"],
    ),
    "a class too few": (("  - female\n", ""), ["classes", "gender", "2 different names"]),
    "two classes of one name": (("  - Black", "  - White"), ["classes", "race", "5 different"]),
    "an age class too many": (
        ("  - 61-116", "  - 61-116\n  - 117-200"),
        ["classes", "age must list 5 different names"],
    ),
    "a class that a spreadsheet takes for a formula": (
        ("  - Black", "  - =1+1"),
        ["classes.race.1", "pattern"],
    ),
    "bounds that end early": (("  - 116", "  - 115"), ["classes", "age_upper_bounds", "116"]),
    "bounds that fall": (("  - 25", "  - 12"), ["classes", "age_upper_bounds", "rise"]),
    "a misspelt key": (
        ("  margin: 0.2", "  margn: 0.2"),
        ["detect.margn", "did you mean 'margin'", "detect.margin: Field required"],
    ),
    "a misspelt section": (
        ("machine:", "machin:"),
        ["machin: unknown", "did you mean 'machine'"],
    ),
    "a misspelt key of a variant": (
        ('heads = "ge",', 'head = "ge",'),
        ["variants.toml: mtl-cnn-ge.head:", "did you mean 'heads'"],
    ),
    "a misspelt key of the weights": (
        ("  vgg16-imagenet: auto", "  vgg16_imagenet: auto"),
        ["pretrained.vgg16_imagenet", "did you mean 'vgg16-imagenet'"],
    ),
    "a word for a number": (("seed: 1", "seed: one"), ["seed", "valid integer", "'one'"]),
    "a number in quotes": (
        ("learning_rate = 0.001", "learning_rate = '0.001'"),
        ["variants.toml: mtl-cnn.learning_rate", "valid number", "'0.001'"],
    ),
    "no confidence": (
        ("  confidence: 0.95", "  confidence: 95"),
        ["evaluate.confidence", "less than or equal to 0.999"],
    ),
    "a single bin": (("  bins: 15", "  bins: 1"), ["evaluate.bins", "greater than or equal to 2"]),
    "a fraction for a count": (("  size: 100", "  size: 100.5"), ["detect.size", "valid integer"]),
    "a word that is none of the choices": (
        ("  source: demo", "  source: utkface"),
        ["data.source", "'demo', 'utkface-wild', 'utkface-aligned' or 'local'", "'utkface'"],
    ),
    "a learning rate of 0": (
        ("learning_rate = 0.001", "learning_rate = 0.0"),
        ["variants.toml: mtl-cnn.learning_rate", "greater than 0"],
    ),
    "an infinite decay": (("    decay: 0.01", "    decay: .inf"), ["mtl.decay", "finite"]),
    "weights that the backbone has none of": (
        ('weights = "none",', 'weights = "imagenet",'),
        ["variants.toml: mtl-cnn", "weights of cnn must be none"],
    ),
    "a block that the backbone lacks": (
        ('trainable = "block5"', 'trainable = "conv5"'),
        ["trainable of vgg16 must be", "block1 or block2 or block3 or block4 or block5"],
    ),
    "a grid with a block that the variant's backbone lacks": (
        ("      trainable: [all, block5]", "      trainable: [conv5]"),
        ["searches.ablation-vgg16.grid: trainable 'conv5'", "trainable of vgg16 must be"],
    ),
    "a grid with images larger than the crops": (
        (
            "      progressive_fraction: [0.0]\n",
            "      progressive_size: [300]\n      progressive_fraction: [0.0]\n",
        ),
        ["searches.ablation-cnn.grid: progressive_size 300", "at most detect.size, 100"],
    ),
    "an unknown recipe": (
        ('recipe = "mtl",', 'recipe = "mlt",'),
        [
            "variants.toml: mtl-cnn.recipe: unknown 'mlt'; did you mean 'mtl'",
            "known: stl, mtl, tuned-cnn, tuned-vgg16",
        ],
    ),
    "an unknown augmentation": (
        ("    augmentation: none", "    augmentation: extreme"),
        ["recipes.stl.augmentation: unknown 'extreme'", "known: none, published, moderate"],
    ),
    "a local source without paths": (
        ("  source: demo", "  source: local"),
        ["data", "local must list at least one archive or folder"],
    ),
    "a mirror without scheme": (
        ("  mirror: google-drive", "  mirror: example.org/utkface"),
        ["data", "mirror must be google-drive or an http(s) address"],
    ),
    "a long side below the short one": (
        ("    long_side: 1980", "    long_side: 500"),
        ["detect.scale", "long_side must be at least short_side (1024)"],
    ),
    "heads that the tasks do not fit": (
        (f'{GE}                     = {{tasks = "age gender race"', f'{GE} = {{tasks = "age race"'),
        ["variants.toml: mtl-cnn-ge", "heads: ge needs the tasks age gender race"],
    ),
    "an unknown variant of a search": (
        ("    variant: mtl-vgg16-imagenet-frozen\n", "    variant: mtl-vgg16-imagenet-frosen\n"),
        ["searches.mtl-vgg16-frozen.variant", "did you mean 'mtl-vgg16-imagenet-frozen'"],
    ),
    "a grid without values": (
        (
            "      head_width: [32, 64, 128, 256]\n",
            "      head_width: []\n",
        ),
        ["searches.stl-gender-head-width.grid.head_width", "at least 1 item"],
    ),
    "an unknown param of a grid": (
        ("      head_width: [32", "      head_widht: [32"),
        ["searches.stl-gender-head-width", "'head_widht'; did you mean 'head_width'", "batch_size"],
    ),
    "a grid's value out of range": (
        ("      learning_rate: [1e-06", "      learning_rate: [-1.0"),
        ["searches.stl-gender-block5", "learning_rate -1.0", "greater than 0"],
    ),
    "a grid's value twice": (
        ("      learning_rate: [1e-06", "      learning_rate: [1e-05"),
        ["searches.stl-gender-block5", "grid.learning_rate: duplicate values"],
    ),
    "a published setting outside the grid": (
        ("    published: {head_width: 128}", "    published: {dropout: 0.5}"),
        ["searches.stl-gender-head-width", "published: 'dropout' is not in grid"],
    ),
    "an unknown augmentation in a grid": (
        ("      augmentation: [none, published]", "      augmentation: [moderat]"),
        ["searches.ablation-cnn.grid.augmentation: unknown 'moderat'", "'moderate'"],
    ),
    "many params that vary together": (
        ("    vary: one-by-one\n", "    vary: together\n"),
        ["searches.ablation-cnn", "grid: vary: together takes one or two params"],
    ),
    "a published setting of an ablation": (
        ("    published: {}\n", "    published: {head_width: 128}\n"),
        ["searches.ablation-cnn", "published: must be {} for vary: one-by-one"],
    ),
    "a subset of nothing": (
        ("    val: 1.0", "    val: 0.0"),
        ["train.subset.val", "greater than 0"],
    ),
    "frozen random layers": (
        ('trainable = "all",', 'trainable = "none",'),
        ["variants.toml: mtl-cnn", "weights: none needs trainable: all"],
    ),
}


@pytest.mark.parametrize(("edit", "told"), FAULTS.values(), ids=FAULTS)
def test_a_fault_names_its_key_and_what_is_accepted(
    load: Load, edit: tuple[str, str], told: list[str]
):
    with pytest.raises(UserError) as raised:
        load(edit)
    text = str(raised.value)
    assert "params.yaml" in text
    for words in told:
        assert words in text
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__, "pydantic's own error is shown too"


def test_a_rate_that_the_batch_makes_too_large_is_refused(load: Load):
    batch = ("  global_batch: 0 ", "  global_batch: 32768 ")
    load(batch)
    with pytest.raises(UserError, match=r"linear makes the rate 2\.048 .*\(mtl-cnn\)"):
        load(batch, ("  lr_scaling: keep", "  lr_scaling: linear"))


def test_every_fault_is_told_not_only_the_first(load: Load):
    with pytest.raises(UserError) as raised:
        load(
            ("  source: demo", "  source: dem"),
            ("  margin: 0.2", "  margin: 2"),
            ("  test: 0.1", "  test: 0.2"),
            ("  - 116", "  - 115"),
            ("  - Black", "  - White"),
            ("epochs = 30", "epochs = 0"),
        )
    text = str(raised.value)
    wanted = [
        "data.source",
        "detect.margin",
        "split",
        "bounds",
        "race",
        "variants.toml: mtl-cnn.epochs",
    ]
    assert [key for key in wanted if key not in text] == []


def test_every_unknown_variant_is_told(load: Load):
    with pytest.raises(UserError, match=r"(?s)'mtl-cn'.*'mtl-cnn-g'"):
        load(("- mtl-cnn\n", "- mtl-cn\n"), ("- mtl-cnn-ge\n", "- mtl-cnn-g\n"))


def test_a_short_exponent_as_dvc_writes_it_is_a_number(load: Load):
    params = load(("learning_rate = 0.001", "learning_rate = 1e-05"))
    assert params.variants["mtl-cnn"].learning_rate == pytest.approx(1e-5)


def test_a_missing_file_says_where_to_run(tmp_path: Path):
    with pytest.raises(UserError, match=r"params\.yaml: missing; run from the project's top"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("content", [b"seed: [1\nsuite: {", b"seed: 1\nseed: 2\n", b"seed: \xff\n"])
def test_a_file_that_is_not_yaml_says_so(tmp_path: Path, content: bytes):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"params\.yaml: not valid YAML"):
        load_params(path)


def test_variants_stand_in_their_own_file_and_there_alone(load: Load, tmp_path: Path):
    with pytest.raises(UserError, match=r"variants stand in variants\.toml, one line each"):
        load(("seed: 1", "variants: {}\nseed: 1"))
    with pytest.raises(UserError, match=r"variants\.toml: not valid TOML"):
        load((CNN, f"{CNN} ="))
    (tmp_path / "variants.toml").unlink()
    with pytest.raises(UserError, match=r"variants\.toml: missing beside .*params\.yaml"):
        load_params(tmp_path / "params.yaml")


def test_an_empty_file_does_not_fit(tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_text("")
    (tmp_path / "variants.toml").write_text("")
    with pytest.raises(UserError, match="does not fit"):
        load_params(path)


def test_dvc_rewrites_the_committed_file_to_the_same_text(tmp_path: Path):
    """`dvc exp run -S` keeps all comments and changes its own line only."""
    path = tmp_path / "params.yaml"
    path.write_text(COMMITTED.read_text())
    with modify_yaml(path) as content:
        content["seed"] = 5
    assert path.read_text() == COMMITTED.read_text().replace("\nseed: 1 #", "\nseed: 5 #")


@pytest.mark.parametrize("key", ["runs", "data.local"])
def test_dvc_fills_and_empties_a_list_without_harm_to_the_file(key: str, tmp_path: Path):
    """A comment beside a list would end up inside of the YAML, and the file be unreadable."""
    path = tmp_path / "params.yaml"
    path.write_text(COMMITTED.read_text())
    for items in ("[one]", "[]", "[one,two]", "[]"):
        apply_overrides(path, [f"{key}={items}"])
        found = reduce(getitem, key.split("."), load_yaml(path))
        assert found == [item for item in items[1:-1].split(",") if item]
    wanted = [line.strip() for line in COMMITTED.read_text().splitlines() if "#" in line]
    assert [line.strip() for line in path.read_text().splitlines() if "#" in line] == wanted
