"""params.yaml, read and checked as a whole before any work.

Each node reads the whole file and so finds a fault in any section, not only in its own.
The schema below is the reference of names, types and ranges; the comments in params.yaml
say what they mean. The YAML reader is DVC's own (ruamel.yaml, YAML 1.2), so that both see
the same values: PyYAML would take the `1e-05` that `dvc exp run -S` writes for a string.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from ruamel.yaml import YAML, YAMLError

from stages.core.errors import UserError

PARAMS_FILE = Path("params.yaml")

TASKS = ("age", "gender", "race")
AUTO = "auto"
GOOGLE_DRIVE = "google-drive"

Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Epochs = Annotated[int, Field(ge=1, le=1000)]
Backbone = Literal["cnn", "vgg16", "vgg19", "resnet50", "densenet121"]
Seed = Annotated[int, Field(ge=0, lt=2**31)]

SHARES_TOLERANCE = 1e-6  # shares are decimal fractions, whose binary sum need not be 1


class Section(BaseModel):
    """A mapping of params: unknown names are refused, nothing is coerced or changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Demo(Section):
    """How many portraits are drawn, and from which seed."""

    portraits: Annotated[int, Field(ge=60, le=100_000)]
    seed: Seed


class Data(Section):
    """Where the images come from."""

    source: Literal["demo", "utkface-wild", "utkface-aligned", "local"]
    local: list[str]
    mirror: str
    demo: Demo

    @model_validator(mode="after")
    def _local_needs_paths(self) -> "Data":
        faults = []
        if self.source == "local" and not self.local:
            faults.append("local must list at least one archive or folder for source: local")
        schemes = ("http://", "https://", "s3://")
        if self.mirror != GOOGLE_DRIVE and not self.mirror.startswith(schemes):
            faults.append(f"mirror must be {GOOGLE_DRIVE} or an http(s) address, or an s3:// one")
        _refuse(faults)
        return self


class Pretrained(BaseModel):
    """Where each weights file is: `auto` (where it is pinned) or the path of a file."""

    model_config = Section.model_config | ConfigDict(alias_generator=lambda f: f.replace("_", "-"))

    retinaface_mobilenet025: str
    retinaface_resnet50: str
    vgg16_imagenet: str
    vgg19_imagenet: str
    resnet50_imagenet: str
    densenet121_imagenet: str
    vgg16_vggface: str

    def path(self, key: str) -> str | None:
        """The path supplied for a weights file, None for `auto`."""
        place = str(getattr(self, key.replace("-", "_")))
        return None if place == AUTO else place


class Scale(Section):
    """What an image is brought to before detection, in pixels."""

    upscale: bool
    short_side: Annotated[int, Field(ge=32, le=4096)]
    long_side: Annotated[int, Field(ge=32, le=8192)]

    @model_validator(mode="after")
    def _sides_in_order(self) -> "Scale":
        if self.long_side < self.short_side:
            raise ValueError(f"long_side must be at least short_side ({self.short_side})")
        return self


class Cropping(Section):
    """What a crop is: which detector finds which face, and how it is cut."""

    detector: Literal["mobilenet0.25", "resnet50"]
    score_threshold: Share
    scale: Scale
    face: Literal["score", "largest", "central"]
    margin: Share
    size: Annotated[int, Field(ge=32, le=512)]


class ArchiveLimits(Section):
    """The most that is read from one archive; `named` is their prefix in error messages."""

    named: ClassVar[str] = "max_"
    max_archive_bytes: Annotated[int, Field(ge=1024)]
    max_members: Annotated[int, Field(ge=1)]
    max_file_bytes: Annotated[int, Field(ge=1024)]


class Detect(Cropping, ArchiveLimits):
    """From images to crops, and the limits on the input."""

    named: ClassVar[str] = "detect.max_"
    damaged: Literal["refuse", "keep"]
    max_pixels: Annotated[int, Field(ge=1024)]
    shard_gib: NotNegative


class Duplicates(Section):
    """What counts as one picture."""

    max_bits: Annotated[int, Field(ge=0, le=16)]
    min_correlation: Share


class Split(Section):
    """Shares of the images, and which images stay together."""

    train: Annotated[float, Field(gt=0, lt=1)]
    val: Annotated[float, Field(gt=0, lt=1)]
    test: Annotated[float, Field(gt=0, lt=1)]
    folds: Annotated[int, Field(ge=0, le=20)]
    conflicting: Literal["keep", "train-only", "drop"]
    duplicates: Duplicates

    @model_validator(mode="after")
    def _parts_fit(self) -> "Split":
        faults, total = [], self.train + self.val + self.test
        if abs(total - 1) > SHARES_TOLERANCE:
            faults.append(f"train + val + test must sum to 1, not {total:g}")
        if self.folds in (1, 2):
            faults.append("folds must be 0 or at least 3: one tested, one for validation, others")
        _refuse(faults)
        return self


# Stands in cells of tables: a spreadsheet takes one that begins with = + - or @ for a formula.
ClassName = Annotated[
    str,
    Field(
        pattern=r"^[^\s=+\-@][^\r\n\t]*$",
        max_length=100,
        description="in one line, first no space and none of `= + - @`",
    ),
]


class Classes(Section):
    """Names of the classes, in the order of their codes; age groups by their upper bounds."""

    age_upper_bounds: Annotated[list[Annotated[int, Field(ge=1, le=116)]], Field(min_length=2)]
    age: list[ClassName]
    gender: list[ClassName]
    race: list[ClassName]

    @model_validator(mode="after")
    def _lists_match(self) -> "Classes":
        faults, bounds = [], self.age_upper_bounds
        if sorted(set(bounds)) != bounds or bounds[-1] != 116:
            faults.append("age_upper_bounds must rise and end at 116, UTKFace's highest age")
        wanted = {"age": len(bounds), "gender": 2, "race": 5}
        for task, number in wanted.items():
            names = getattr(self, task)
            if len(names) != number or len(set(names)) != number:
                faults.append(f"{task} must list {number} different names, one per class")
        _refuse(faults)
        return self

    def of(self, task: str) -> list[str]:
        """The class names of a task."""
        return list(getattr(self, task))


class TaskWeights(Section):
    """The weight of each task."""

    age: NotNegative
    gender: NotNegative
    race: NotNegative


class Subset(Section):
    """The share of each split's images that a training uses."""

    train: Annotated[float, Field(gt=0, le=1)]
    val: Annotated[float, Field(gt=0, le=1)]

    @property
    def whole(self) -> bool:
        """Whether all images are used."""
        return self.train == self.val == 1


class Train(Section):
    """What holds for the training of every variant."""

    max_epochs: Epochs
    global_batch: Annotated[int, Field(ge=0, le=65_536)]
    lr_scaling: Literal["keep", "linear", "sqrt"]
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"]
    deterministic: bool
    xla: list[Backbone]
    subset: Subset
    task_weights: TaskWeights


class Evaluate(Section):
    """How the test images are predicted and the predictions scored."""

    mirrored: bool
    confidence: Annotated[float, Field(ge=0.5, le=0.999)]
    resamples: Annotated[int, Field(ge=100, le=100_000)]
    bins: Annotated[int, Field(ge=2, le=100)]
    min_subgroup_size: Annotated[int, Field(ge=1)]


class Report(Section):
    """What the report shows."""

    pictures: Literal["auto", True, False]
    errors: Annotated[int, Field(ge=0, le=1000)]
    issues: Annotated[int, Field(ge=0, le=10_000)]
    timings: bool


class Machine(Section):
    """How this machine is used."""

    device: Literal["auto", "cpu", "gpu"]
    memory_growth: bool
    steps_per_execution: Annotated[int, Field(ge=1, le=10_000)]
    images_on_device: bool
    strategy: Literal["auto", "none", "mirrored", "multi-worker"]
    worker_patience: Annotated[float, Field(ge=5, le=86_400)]
    features_gib: NotNegative
    threads: Annotated[int, Field(ge=0, le=256)]


class Cluster(Section):
    """Over which machines work is spread."""

    engine: Literal["local", "ray"]
    address: Annotated[str, Field(min_length=1)]
    workers: Annotated[int, Field(ge=0, le=100_000)]
    cpus: Annotated[float, Field(gt=0, le=1024)]
    gpus: Annotated[float, Field(ge=0, le=1024)]
    batch: Annotated[int, Field(ge=1, le=100_000)]


Smoothing = Annotated[float, Field(ge=0, le=0.5)]


class LabelSmoothing(Section):
    """The share of a label that is spread over all classes, by task."""

    age: Smoothing
    gender: Smoothing
    race: Smoothing


class Recipe(Section):
    """How networks of one kind learn."""

    schedule: Literal["exponential", "cosine"]
    constant_epochs: Annotated[int, Field(ge=0)]
    decay: NotNegative
    warmup_epochs: NotNegative
    patience: Annotated[int, Field(ge=0)]
    clipnorm: NotNegative
    weight_decay: NotNegative
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    weight_average: Annotated[float, Field(ge=0, le=0.9999)]
    progressive_fraction: Share
    progressive_size: Annotated[int, Field(ge=32, le=512)]
    dropout: Annotated[float, Field(ge=0, le=0.9)]
    head_width: Annotated[int, Field(ge=1, le=4096)]
    age_head: Literal["groups", "years"]
    age_sigma: Annotated[float, Field(gt=0, le=50)]
    balance: Literal["none", "class-weights", "sampling"]
    task_weighting: Literal["fixed", "uncertainty"]
    augmentation: str
    label_smoothing: LabelSmoothing


class Augmentation(Section):
    """How far training images are changed at random."""

    flip: bool
    rotation: Annotated[float, Field(ge=0, le=180)]
    shift: Annotated[float, Field(ge=0, le=0.5)]
    zoom: Annotated[float, Field(ge=0, le=0.5)]
    brightness: Share
    contrast: Annotated[float, Field(ge=0, le=0.9)]
    saturation: Annotated[float, Field(ge=0, le=0.9)]
    hue: Annotated[float, Field(ge=0, le=0.5)]


# The blocks of each backbone from which on it may learn, the first included.
BLOCKS = {
    "vgg16": ("block1", "block2", "block3", "block4", "block5"),
    "vgg19": ("block1", "block2", "block3", "block4", "block5"),
    "resnet50": ("conv2", "conv3", "conv4", "conv5"),
    "densenet121": ("conv2", "conv3", "conv4", "conv5"),
}
# The weights that each backbone can start from.
WEIGHTS = {
    "cnn": ("none",),
    "vgg16": ("none", "imagenet", "vggface"),
    "vgg19": ("none", "imagenet"),
    "resnet50": ("none", "imagenet"),
    "densenet121": ("none", "imagenet"),
}


class Variant(Section):
    """What a network is."""

    tasks: Literal[
        "age gender race", "age gender", "age race", "gender race", "age", "gender", "race"
    ]
    backbone: Backbone
    weights: Literal["none", "imagenet", "vggface"]
    trainable: str
    heads: Literal["plain", "ge", "ge_gm", "ge_am"]
    preprocessing: Literal["unit", "native"]
    recipe: str

    @model_validator(mode="after")
    def _parts_fit(self) -> "Variant":
        faults = []
        if self.heads != "plain" and len(self.task_list) != len(TASKS):
            faults.append(f"heads: {self.heads} needs the tasks {' '.join(TASKS)}")
        if self.weights not in (known := WEIGHTS[self.backbone]):
            faults.append(f"weights of {self.backbone} must be {' or '.join(known)}")
        accepted = ("none", "all", *BLOCKS.get(self.backbone, ()))
        if self.trainable not in accepted:
            faults.append(f"trainable of {self.backbone} must be {' or '.join(accepted)}")
        if self.weights == "none" and self.trainable != "all":
            faults.append("weights: none needs trainable: all; random layers must learn")
        _refuse(faults)
        return self

    @property
    def task_list(self) -> list[str]:
        """The tasks, in the order age, gender, race."""
        return self.tasks.split()


class Training(Section):
    """How one network learns, where it differs from others of its recipe."""

    learning_rate: Annotated[float, Field(gt=0, le=1)]
    batch_size: Annotated[int, Field(ge=1, le=4096)]
    epochs: Epochs


# What a search can vary: how a network learns, but not the epochs, which stand beside the grid,
# and of what it is that which leaves it the same variant.
_OF_THE_VARIANT = ("trainable", "heads", "preprocessing")
SEARCHABLE = (
    *(name for name in Training.model_fields if name != "epochs"),
    *Recipe.model_fields,
    *_OF_THE_VARIANT,
)

Searchable = type[Training] | type[Recipe] | type[Variant]


def section_of(name: str) -> Searchable | None:
    """The section that a searchable param belongs to."""
    if name not in SEARCHABLE:
        return None
    sections: tuple[Searchable, ...] = (Training, Recipe, Variant)
    return next(section for section in sections if name in section.model_fields)


def _faults_of(section: type[BaseModel], name: str, value: object) -> list[str]:
    """What is wrong with one value of a section, told as for the section itself."""
    field = section.model_fields[name]
    # A search sets the label smoothing of all tasks alike.
    several = field.annotation is LabelSmoothing
    accepted: Any = Smoothing if several else Annotated[field.annotation, field]
    try:
        TypeAdapter(accepted, config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError as error:
        return [fault["msg"] for fault in error.errors()]
    return []


Setting = dict[str, int | float | str]  # values of params by their names, as in a grid


class Search(Section):
    """Trainings of one variant, each with another setting, to be told apart by validation."""

    variant: str
    epochs: Epochs
    subset: Subset
    vary: Literal["together", "one-by-one"]
    grid: Annotated[
        dict[str, Annotated[list[int | float | str], Field(min_length=1)]],
        Field(min_length=1),
    ]
    published: Setting

    @model_validator(mode="after")
    def _values_fit(self) -> "Search":
        faults = [
            f"published: {name!r} is not in grid"
            for name in self.published
            if name not in self.grid
        ]
        if self.vary == "together" and len(self.grid) > 2:
            faults.append("grid: vary: together takes one or two params")
        if self.vary == "one-by-one" and self.published:
            faults.append("published: must be {} for vary: one-by-one")
        for name, values in self.grid.items():
            if (section := section_of(name)) is None:
                known = ", ".join(SEARCHABLE)
                faults.append(
                    f"grid: unknown param {name!r}{suggestion(name, SEARCHABLE)}; known: {known}"
                )
                continue
            if len(set(values)) != len(values):
                faults.append(f"grid.{name}: each value can stand there once")
            for value in [*values, *([self.published[name]] if name in self.published else [])]:
                faults += [f"{name} {value!r}: {f}" for f in _faults_of(section, name, value)]
        _refuse(faults)
        return self


NO_AUGMENTATION = "none"
Condition = Annotated[
    str,
    Field(
        pattern=r"^(native|published-split|seed-(0|[1-9]\d{0,8})|fold-(0|[1-9]\d?))$",
        description="`native`, `published-split`, `seed-<number>` or `fold-<number>`",
    ),
]


class Repeats(Section):
    """Which variants are trained and evaluated again, and under which conditions."""

    variants: list[str]
    conditions: list[Condition]

    @model_validator(mode="after")
    def _both_or_none(self) -> "Repeats":
        faults = [
            f"{key}: each name can stand there once"
            for key in ("variants", "conditions")
            if len(set(getattr(self, key))) != len(getattr(self, key))
        ]
        if self.conditions and not self.variants:
            faults.append("variants: none is named for the conditions; name variants of the suite")
        _refuse(faults)
        return self


class Params(Section):
    """The whole file."""

    suite: Annotated[list[str], Field(min_length=1)]
    repeats: Repeats
    seed: Seed
    data: Data
    pretrained: Pretrained
    detect: Detect
    split: Split
    classes: Classes
    train: Train
    evaluate: Evaluate
    audit: Duplicates
    report: Report
    machine: Machine
    cluster: Cluster
    recipes: dict[str, Recipe]
    augmentations: dict[str, Augmentation]
    variants: dict[str, Variant]
    training: dict[str, Training]
    searches: dict[str, Search]

    def conditions(self, variant: str) -> list[str]:
        """The conditions under which a variant is trained and evaluated again."""
        return list(self.repeats.conditions) if variant in self.repeats.variants else []

    @property
    def shows_pictures(self) -> bool:
        """Whether the report shows faces: auto means drawn ones only."""
        wanted = self.report.pictures
        return self.data.source == "demo" if wanted == AUTO else bool(wanted)

    @model_validator(mode="after")
    def _suite_is_known(self) -> "Params":
        faults = []
        if len(set(self.suite)) != len(self.suite):
            faults.append("suite: each name can stand there once")
        faults += self._misplaced_repeats() + self._unknown_names() + self._unfit_values()
        faults += [
            f"training: lacks {n!r}, which variants has"
            for n in self.variants.keys() - self.training.keys()
        ]
        used = {self.variants[name].recipe for name in self.suite if name in self.variants}
        faults += [
            f"recipes.{name}.progressive_size: must be at most detect.size, {self.detect.size}"
            for name, recipe in self.recipes.items()
            if name in used
            and recipe.progressive_fraction
            and recipe.progressive_size > self.detect.size
        ]
        for name in self.suite:
            if name not in self.variants:
                faults.append(
                    f"suite: unknown variant {name!r}{suggestion(name, self.variants)}; "
                    f"known: {', '.join(self.variants)}"
                )
                continue
            weights = [getattr(self.train.task_weights, t) for t in self.variants[name].task_list]
            if not any(weights):
                faults.append(f"train.task_weights: all tasks of {name} have weight 0")
        _refuse(faults)
        return self

    def _misplaced_repeats(self) -> list[str]:
        """Variants and folds that are not there, and the seed that the variants have anyway."""
        folds = [f"fold-{number}" for number in range(self.split.folds)]
        known = f"known: {', '.join(folds)}" if folds else "set split.folds to 3 or more"
        faults = [
            f"repeats.conditions: there is no {name}; {known}"
            for name in self.repeats.conditions
            if name.startswith("fold-") and name not in folds
        ]
        faults += [
            f"repeats.variants: {name!r} is not in suite; take it out there or put it in here"
            for name in self.repeats.variants
            if name not in self.suite
        ]
        if (own := f"seed-{self.seed}") in self.repeats.conditions:
            faults.append(f"repeats.conditions: {own} is the seed of the variants themselves")
        return faults

    def _unfit_values(self) -> list[str]:
        """Values of grids that fit by themselves, but not the search's variant or images."""
        faults = []
        for name, search in self.searches.items():
            if (chosen := self.variants.get(search.variant)) is None:
                continue
            where = f"searches.{name}.grid"
            for key, values in search.grid.items():
                for value in values if section_of(key) is Variant else ():
                    try:
                        Variant.model_validate(chosen.model_dump() | {key: value})
                    except ValidationError as error:
                        faults += [f"{where}: {key} {value!r}: {f['msg']}" for f in error.errors()]
            faults += [
                f"{where}: progressive_size {value!r}: must be at most detect.size, "
                f"{self.detect.size}"
                for value in search.grid.get("progressive_size", [])
                if float(value) > self.detect.size
            ]
        return faults

    def _unknown_names(self) -> list[str]:
        """What refers to a recipe or an augmentation that is not there."""
        sets = (NO_AUGMENTATION, *self.augmentations)
        references = [
            (f"variants.{name}.recipe", variant.recipe, tuple(self.recipes))
            for name, variant in self.variants.items()
        ] + [
            (f"recipes.{name}.augmentation", recipe.augmentation, sets)
            for name, recipe in self.recipes.items()
        ]
        references += [
            (f"searches.{name}.variant", search.variant, tuple(self.variants))
            for name, search in self.searches.items()
        ] + [
            (f"searches.{name}.grid.augmentation", str(value), sets)
            for name, search in self.searches.items()
            for value in search.grid.get("augmentation", [])
        ]
        return [
            f"{key}: unknown {value!r}{suggestion(value, known)}; known: {', '.join(known)}"
            for key, value, known in references
            if value not in known
        ]


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check the params file.

    Raises:
        UserError: missing, not YAML, or a name, type or value that does not fit; the text
            names each key at fault and what it accepts.
    """
    try:
        return parse_params(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run from the project's top folder") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from error


def parse_params(text: str, path: str) -> Params:
    """Check the content of a params file.

    Raises:
        UserError: as `load_params`; `path` is how it names the file.
    """
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from error
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        faults = "\n".join(f"  {_explain(dict(fault))}" for fault in error.errors())
        raise UserError(f"{path} does not fit:\n{faults}") from None


def _refuse(faults: list[str]) -> None:
    """Tell all faults of a section at once, not one at each run."""
    if faults:
        raise ValueError("; ".join(faults))


def _explain(fault: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{key}: unknown name{suggestion(str(fault['loc'][-1]), _names_beside(fault))}"
    text = fault["msg"].removeprefix("Value error, ")
    value = fault["input"]
    shown = f" (is {value!r})" if isinstance(value, (str, int, float, bool, type(None))) else ""
    return f"{key}: {text}{shown}" if key else text


def _names_beside(fault: dict[str, Any]) -> list[str]:
    model: type[BaseModel] = Params
    for part in fault["loc"][:-1]:
        field = model.model_fields.get(str(part))
        if field is None:
            continue  # the key of a dict of models, as in variants.<name>
        model = next((t for t in _models_in(field.annotation)), model)
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def suggestion(name: str, known: Any) -> str:
    """What to say to a misspelt name: the known one that is closest, if any is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
