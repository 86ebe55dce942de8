"""The sections of params.yaml on networks: recipes, augmentations, variants, searches."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from stages.core.sections import (
    TASKS,
    Backbone,
    Epochs,
    NotNegative,
    Section,
    Seed,
    Share,
    Subset,
    TaskWeights,
    Train,
    refuse,
    suggestion,
)

NO_AUGMENTATION = "none"
# The blocks of each backbone from which on it may learn, the first included.
BLOCKS = {
    "vgg16": ("block1", "block2", "block3", "block4", "block5"),
    "vgg19": ("block1", "block2", "block3", "block4", "block5"),
    "resnet50": ("conv2", "conv3", "conv4", "conv5"),
    "densenet121": ("conv2", "conv3", "conv4", "conv5"),
    "mobilenet": tuple(f"conv_dw_{block}" for block in range(1, 14)),
}
# The weights that each backbone can start from.
WEIGHTS = {
    "cnn": ("none",),
    "vgg16": ("none", "imagenet", "vggface"),
    "vgg19": ("none", "imagenet"),
    "resnet50": ("none", "imagenet"),
    "densenet121": ("none", "imagenet"),
    "mobilenet": ("none", "vggface2"),
}

Smoothing = Annotated[float, Field(ge=0, le=0.5)]
HIGHEST_RATE = 1.0
LearningRate = Annotated[float, Field(gt=0, le=HIGHEST_RATE)]
# How the learning rate grows with the batch. linear: Goyal et al. 2017,
# https://arxiv.org/abs/1706.02677; sqrt: for Adam, Malladi et al. 2022,
# https://arxiv.org/abs/2205.10287.
LR_SCALING_POWERS = {"keep": 0.0, "linear": 1.0, "sqrt": 0.5}


class LabelSmoothing(Section):
    """The share of a label that is spread over all classes, by task."""

    age: Smoothing
    gender: Smoothing
    race: Smoothing


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
    greyscale: Share
    erasing: Share


class _Learning(Section):
    """What a recipe and a run that follows it have in common."""

    schedule: Literal["exponential", "cosine"]
    constant_epochs: Annotated[int, Field(ge=0)]
    decay: NotNegative
    warmup_epochs: NotNegative
    patience: Annotated[int, Field(ge=0)]
    clipnorm: NotNegative
    weight_decay: NotNegative
    weight_average: Annotated[float, Field(ge=0, le=0.9999)]
    progressive_size: Annotated[int, Field(ge=32, le=512)]
    age_sigma: Annotated[float, Field(gt=0, le=50)]
    age_error_weight: NotNegative
    conflicting_labels: Literal["own", "mean"]
    mixup: Annotated[float, Field(ge=0, le=10)]
    balance: Literal["none", "class-weights", "sampling"]
    loss_weights: TaskWeights
    label_smoothing: LabelSmoothing


class Recipe(_Learning):
    """How networks of one kind are trained."""

    progressive_fraction: Share
    dropout: Annotated[float, Field(ge=0, le=0.9)]
    head_width: Annotated[int, Field(ge=1, le=4096)]
    age_head: Literal["groups", "years"]
    augmentation: str


class Training(_Learning):
    """How one run is trained: its recipe with everything that variant and params add to it.

    Of `epochs`, the first `progressive_epochs` learn from images of `progressive_size` pixels.
    """

    seed: Seed
    learning_rate: LearningRate
    batch_size: Annotated[int, Field(ge=1)]
    epochs: Epochs
    progressive_epochs: Annotated[int, Field(ge=0)]
    task_weights: TaskWeights
    augmentation: Augmentation | None


class Variant(Section):
    """A network: its structure, its recipe, and how it is trained where recipes leave it open."""

    tasks: Literal[
        "age gender race", "age gender", "age race", "gender race", "age", "gender", "race"
    ]
    backbone: Backbone
    weights: Literal["none", "imagenet", "vggface", "vggface2"]
    trainable: str
    heads: Literal["plain", "ge", "ge_gm", "ge_am"]
    preprocessing: Literal["unit", "native"]
    recipe: str
    learning_rate: LearningRate
    batch_size: Annotated[int, Field(ge=1, le=4096)]
    epochs: Epochs
    input_side: Annotated[int, Field(ge=0, le=1024)] = 0

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
        refuse(faults)
        return self

    @property
    def task_list(self) -> list[str]:
        """The tasks, in the order age, gender, race."""
        return self.tasks.split()


class Average(Section):
    """An average of runs: whose, and whether each member also sees the mirrored image."""

    members: Annotated[list[str], Field(min_length=1)]
    flip: bool


class Contrast(Section):
    """Two sides of a comparison that was planned: variants, each of which counts with its seeds."""

    a: Annotated[list[str], Field(min_length=1)]
    b: Annotated[list[str], Field(min_length=1)]


class NetworkSpec(Section):
    """What `build_network` builds. The defaults are those of the published variants.

    Attributes:
        backbone: see `build_backbone`, like `trainable` and `preprocessing`.
        trainable: the part of the backbone that learns.
        heads: see `build_heads`, like the fields from `head_width` on.
        preprocessing: `unit` or `native`.
        classes: number of classes by task, in the order of the outputs.
        size: side of the images in pixels.
        input_side: side in pixels to which the network enlarges them itself; 0: not at all.
        weights: the name of the pretrained weights, on which native preprocessing depends.
        head_width: units of each hidden layer of a head.
        dropout: share of the hidden features dropped while learning.
        age_head: `groups` or `years`.
        age_upper_bounds: the last year of each age group.
    """

    backbone: Backbone
    trainable: str
    heads: str = "plain"
    preprocessing: str = "unit"
    classes: dict[str, int]
    size: int
    input_side: int = 0
    weights: str = "none"
    head_width: int = 128
    dropout: float = 0.0
    age_head: str = "groups"
    age_upper_bounds: list[int] = Field(default_factory=list)


# What a search can vary of a variant; its epochs stand beside the grid, and another of the other
# fields would make it another variant.
OF_THE_VARIANT = (
    "learning_rate",
    "batch_size",
    "trainable",
    "heads",
    "preprocessing",
    "input_side",
)
SEARCHABLE = (*OF_THE_VARIANT, *Recipe.model_fields)

Setting = dict[str, int | float | str]  # values of params by their names, as in a grid


class Search(Section):
    """Trainings of one variant with different settings, compared by validation accuracy.

    `seeds`: trainings of each setting, with `seed`, `seed` + 1 and so on.
    """

    variant: str
    epochs: Epochs
    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    subset: Subset
    vary: Literal["together", "one-by-one"]
    grid: Annotated[
        dict[str, Annotated[list[int | float | str], Field(min_length=1)]],
        Field(min_length=1),
    ]
    published: Setting

    @model_validator(mode="after")
    def _values_fit(self) -> "Search":
        faults = [f"published: {n!r} is not in grid" for n in self.published if n not in self.grid]
        if self.vary == "together" and len(self.grid) > 2:
            faults.append("grid: vary: together takes one or two params")
        if self.vary == "one-by-one" and self.published:
            faults.append("published: must be {} for vary: one-by-one")
        for name, values in self.grid.items():
            if name not in SEARCHABLE:
                known = ", ".join(SEARCHABLE)
                faults.append(
                    f"grid: unknown param {name!r}{suggestion(name, SEARCHABLE)}; known: {known}"
                )
                continue
            if len(set(values)) != len(values):
                faults.append(f"grid.{name}: duplicate values")
            for value in [*values, *([self.published[name]] if name in self.published else [])]:
                faults += [f"{name} {value!r}: {fault}" for fault in _faults_of(name, value)]
        refuse(faults)
        return self


def _faults_of(name: str, value: object) -> list[str]:
    """What is wrong with one value of a grid, in the words of the section it belongs to."""
    section: type[BaseModel] = Variant if name in OF_THE_VARIANT else Recipe
    field = section.model_fields[name]
    # A search sets the label smoothing of all tasks alike.
    several = field.annotation is LabelSmoothing
    accepted: Any = Smoothing if several else Annotated[field.annotation, field]
    try:
        TypeAdapter(accepted, config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError as error:
        return [fault["msg"] for fault in error.errors()]
    return []


def rate_and_batch(train: Train, variant: Variant) -> tuple[float, int]:
    """The learning rate and the batch size of a variant at `train.global_batch`."""
    batch = train.global_batch or variant.batch_size
    power = LR_SCALING_POWERS[train.lr_scaling]
    return variant.learning_rate * (batch / variant.batch_size) ** power, batch


def fault_of_rate(train: Train, variant: Variant) -> str | None:
    """What is wrong with the learning rate at `train.global_batch`; None: nothing."""
    rate, batch = rate_and_batch(train, variant)
    if rate <= HIGHEST_RATE:
        return None
    words = f"{train.lr_scaling} makes the rate {rate:g} for global_batch {batch}, above"
    return f"train.lr_scaling: {words} {HIGHEST_RATE:g}; choose sqrt, keep or a smaller batch"
