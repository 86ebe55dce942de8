"""What the benchmarks of training share: runs of params.yaml on real crops."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.faces import Faces, backbone_weights
from stages.core.errors import UserError
from stages.core.params import Params
from stages.core.variants import NetworkSpec, Training
from stages.runs.resolve import resolve

if TYPE_CHECKING:  # device.prepare comes before the first import of Keras
    import keras

    from stages.learning.fit import Examples, Execution, Features, Log

VAL_SHARE = 0.2


@dataclass(frozen=True)
class Task:
    """A training: network, settings, images and examples.

    weights: of the backbone; None: random ones, which cost the same.
    """

    structure: NetworkSpec
    recipe: Training
    images: npt.NDArray[np.uint8]
    train: "Examples"
    val: "Examples"
    weights: Path | None

    @property
    def classes(self) -> dict[str, int]:
        """The number of classes by task."""
        return self.structure.classes

    def network(self, seed: int = 1) -> "keras.Model":
        """A new network, the same one for the same seed."""
        import keras

        from stages.networks.network import build_network

        keras.utils.set_random_seed(seed)
        return build_network(self.structure, self.weights)

    def fit(
        self,
        model: "keras.Model",
        folder: Path,
        seed: int = 1,
        features: "Features | None" = None,
        log: "Log | None" = None,
        execution: "Execution | None" = None,
    ) -> None:
        """Train a network as the stage train does.

        Args:
            model: from `network`.
            folder: of the checkpoints.
            seed: of the order of the batches.
            features: of a frozen part; None: computed anew.
            log: called after each epoch.
            execution: how the steps are run; None: as they come.
        """
        from stages.learning.checkpoints import Checkpoints
        from stages.learning.fit import Data, Execution, fit

        checkpoints = Checkpoints(folder / "checkpoints", "benchmark")
        fit(
            model,
            Data(self.images, self.train, self.val),
            self.recipe.model_copy(update={"seed": seed}),
            features or (lambda frozen: frozen.predict(self.images, verbose=0)),
            checkpoints,
            log or (lambda *_: None),
            execution or Execution(),
        )
        checkpoints.clear()  # the next training is another

    def learning_part(self, model: "keras.Model") -> "tuple[npt.NDArray[Any], keras.Model]":
        """The part of a network whose steps are run, and what it takes for the images.

        That is the whole, or what follows a frozen part whose outputs are stored.
        """
        from stages.learning.fit import caches_features
        from stages.networks.network import split_frozen

        if caches_features(self.recipe) and (parts := split_frozen(model)) is not None:
            frozen, learns = parts
            return np.asarray(frozen.predict(self.images, verbose=0)), learns
        return self.images, model

    def with_recipe(self, **changes: Any) -> "Task":
        """The same under other settings of the recipe."""
        return replace(self, recipe=self.recipe.model_copy(update=changes))


def make_task(params: Params, variant: str, faces: Faces, epochs: int, real: bool = True) -> Task:
    """The training of a variant of params.yaml on some faces, for a number of epochs.

    Args:
        params: params.yaml.
        variant: one of its variants.
        faces: its images; the last fifth validates.
        epochs: whatever the variant and `train.max_epochs` say.
        real: whether the backbone starts from its real weights, if it has any.

    Raises:
        UserError: there is no such variant.
    """
    from stages.learning.fit import Examples
    from stages.networks.heads import AGE_YEARS

    if variant not in params.variants:
        raise UserError(f"unknown variant {variant!r}; see variants.toml")
    plan = resolve(params, variant, epochs)
    structure = plan.network.model_copy(update={"size": faces.crops.shape[1]})
    pretrained = real and structure.weights != "none"
    weights = backbone_weights(structure.backbone, params) if pretrained else None
    cut = max(1, round((1 - VAL_SHARE) * len(faces.names)))
    rows = np.arange(len(faces.names))
    labels = {task: faces.labels[task] for task in plan.tasks}
    if structure.age_head == "years" and faces.ages is not None:
        labels[AGE_YEARS] = faces.ages
    train, val = (
        Examples(part, {name: values[part] for name, values in labels.items()})
        for part in (rows[:cut], rows[cut:])
    )
    return Task(structure, plan.training, faces.crops, train, val, weights)
