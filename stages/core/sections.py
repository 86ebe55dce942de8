"""The sections of params.yaml that describe data, stages and machine: names, types and ranges.

The comments in params.yaml say what each param means.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.core.errors import UserError

TASKS = ("age", "gender", "race")
AUTO = "auto"
GOOGLE_DRIVE = "google-drive"

Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Epochs = Annotated[int, Field(ge=1, le=1000)]
Backbone = Literal["cnn", "vgg16", "vgg19", "resnet50", "densenet121", "mobilenet"]
Seed = Annotated[int, Field(ge=0, lt=2**31)]

SHARES_TOLERANCE = 1e-6  # shares are decimal fractions, whose binary sum need not be 1
Parsed = TypeVar("Parsed", bound="Section")


class Section(BaseModel):
    """A mapping of params: unknown names are refused, nothing is coerced or changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def parse(cls: type[Parsed], text: str | bytes, place: Path, mend: str) -> Parsed:
        """Parse the JSON of `place`.

        Raises:
            UserError: not JSON, or a field that does not fit; it names the field and `mend`.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            fault = error.errors()[0]
            field = ".".join(map(str, fault["loc"])) or "content"
            raise UserError(f"{place}: {field}: {fault['msg']}; {mend}") from None


def refuse(faults: list[str]) -> None:
    """Report all faults of a section at once.

    Raises:
        ValueError: there are any.
    """
    if faults:
        raise ValueError("; ".join(faults))


def suggestion(name: str, known: Iterable[str]) -> str:
    """The hint for a misspelt name: the closest known one, if any is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


class Demo(Section):
    """How many portraits are drawn, and from which seed."""

    portraits: Annotated[int, Field(ge=60, le=100_000)]
    seed: Seed


class Data(Section):
    """Where the images come from."""

    source: Literal["demo", "utkface-wild", "utkface-aligned", "local"]
    local: list[str]
    follow_links: bool
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
        refuse(faults)
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
    mobilenet_vggface2: str

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


class Audit(Duplicates):
    """What counts as one picture in the audit, and whether embeddings are compared too."""

    embeddings: bool
    min_similarity: Share
    loose_similarity: Share

    @model_validator(mode="after")
    def _similarities_in_order(self) -> "Audit":
        if self.loose_similarity > self.min_similarity:
            raise ValueError(f"loose_similarity must be at most {self.min_similarity}")
        return self


class Split(Section):
    """Shares of the images, and which images stay together."""

    train: Annotated[float, Field(gt=0, lt=1)]
    val: Annotated[float, Field(gt=0, lt=1)]
    test: Annotated[float, Field(gt=0, lt=1)]
    folds: Annotated[int, Field(ge=0, le=20)]
    folds_by: Literal["picture", "date"]
    conflicting: Literal["keep", "train-only", "drop"]
    duplicates: Duplicates
    identity: Literal["none", "group"]
    identity_similarity: Share

    @model_validator(mode="after")
    def _parts_fit(self) -> "Split":
        faults, total = [], self.train + self.val + self.test
        if abs(total - 1) > SHARES_TOLERANCE:
            faults.append(f"train + val + test must sum to 1, not {total:g}")
        if self.folds in (1, 2):
            faults.append("folds must be 0 or at least 3: one tested, one for validation, others")
        refuse(faults)
        return self


# Stands in cells of tables: a spreadsheet takes one that begins with = + - or @ for a formula.
ClassName = Annotated[
    str,
    Field(
        pattern=r"^[^\s=+\-@\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$",
        max_length=100,
        description="in one line, no control character, first no space and none of `= + - @`",
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
        refuse(faults)
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
    threads: Annotated[int, Field(ge=0, le=1024)]
    deterministic: bool
    xla: list[Backbone]
    subset: Subset
    task_weights: TaskWeights


class Evaluate(Section):
    """How the test images are predicted and the predictions scored."""

    flip_tta: bool
    confidence: Annotated[float, Field(ge=0.5, le=0.999)]
    equivalence: Share
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
