"""The input and output of a model: `models/<run>/preprocessor_config.json`, beside the network.

It holds the tasks that the network answers, and of params.yaml as it stood when it was trained the
section `classes`, `detect` without its limits, and `data.source`. Preprocessing is inside the
network.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from stages.core.errors import UserError
from stages.core.paths import INPUT_SPEC_FILE
from stages.core.sections import Classes, Cropping, Section

if TYPE_CHECKING:  # predictions need no reader of YAML
    from stages.core.params import Params


class InputSpec(Section):
    """The content of preprocessor_config.json."""

    tasks: Annotated[list[Literal["age", "gender", "race"]], Field(min_length=1)]
    detect: Cropping
    classes: Classes
    trained_on: str | None = None  # data.source of the training images; None: not known

    @classmethod
    def of(cls, params: "Params", tasks: Sequence[str]) -> "InputSpec":
        """What params say, for a network that answers these tasks."""
        detect = params.detect.model_dump(include=set(Cropping.model_fields))
        content = {"tasks": list(tasks), "detect": detect, "classes": params.classes.model_dump()}
        return cls.model_validate(content | {"trained_on": params.data.source})


def read_input_spec(folder: Path) -> InputSpec:
    """How the model of a folder is fed; UserError if the file is missing or does not fit."""
    path = folder / INPUT_SPEC_FILE
    if not path.is_file():
        raise UserError(f"{path}: missing; train the model again: `dvc repro`")
    return InputSpec.parse(path.read_bytes(), path, "train or export it again")
