"""What the benchmarks of training share: runs of params.yaml on real crops."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.faces import Faces, backbone_weights
from stages.core.params import TASKS, Params
from stages.runs.resolve import plan_run

if TYPE_CHECKING:  # device.prepare comes before the first import of Keras
    import keras

    from stages.learning.recipe import Examples, Execution, Features, Log, Recipe

VAL_SHARE = 0.2


@dataclass(frozen=True)
class Task:
    """A training: structure of the network, classes, recipe, images and who learns from which.

    weights: of the backbone; None: random ones, which cost the same.
    """

    structure: dict[str, Any]
    classes: dict[str, int]
    recipe: "Recipe"
    images: npt.NDArray[np.uint8]
    train: "Examples"
    val: "Examples"
    weights: Path | None

    def network(self, seed: int = 1) -> "keras.Model":
        """A new network, the same one for the same seed."""
        import keras

        from stages.networks.network import build_network

        keras.utils.set_random_seed(seed)
        return build_network(**self.structure, weights=self.weights)

    def fit(
        self,
        model: "keras.Model",
        folder: Path,
        seed: int = 1,
        features: "Features | None" = None,
        log: "Log | None" = None,
        execution: "Execution | None" = None,
    ) -> None:
        """Train a network as the node train does.

        Args:
            model: from `network`.
            folder: of the checkpoints.
            seed: of the order of the batches.
            features: of a frozen part; None: computed anew.
            log: called after each epoch.
            execution: how the steps are run; None: as they come.
        """
        from stages.learning.checkpoints import Checkpoints
        from stages.learning.recipe import Execution, fit

        checkpoints = Checkpoints(folder / "checkpoints", "benchmark")
        fit(
            model,
            self.images,
            self.train,
            self.val,
            self.classes,
            self.recipe,
            seed,
            features or (lambda frozen: frozen.predict(self.images, verbose=0)),
            checkpoints,
            log or (lambda *_: None),
            execution or Execution(),
        )
        checkpoints.clear()  # the next training is another

    def with_recipe(self, **changes: Any) -> "Task":
        """The same under other settings of the recipe."""
        return replace(self, recipe=replace(self.recipe, **changes))


def make_task(params: Params, variant: str, faces: Faces, epochs: int, real: bool = True) -> Task:
    """The training of a variant of params.yaml on some faces, for a number of epochs.

    Args:
        params: params.yaml.
        variant: one of its variants.
        faces: its images; the last fifth validates.
        epochs: whatever `training` and `train.max_epochs` say.
        real: whether the backbone starts from its real weights, if it has any.
    """
    from stages.learning.recipe import Examples, Recipe
    from stages.networks.heads import AGE_YEARS

    run = plan_run(params, variant, epochs=epochs)
    classes = {task: len(params.classes.of(task)) for task in run.tasks}
    structure = run.network(classes, faces.crops.shape[1], params.classes.age_upper_bounds)
    pretrained = real and structure["pretraining"] != "none"
    weights = backbone_weights(structure["backbone"], params) if pretrained else None
    cut = max(1, round((1 - VAL_SHARE) * len(faces.names)))
    rows = np.arange(len(faces.names))
    labels = {task: faces.labels[task] for task in TASKS if task in classes}
    if structure["age_head"] == "years" and faces.ages is not None:
        labels[AGE_YEARS] = faces.ages
    train, val = (
        Examples(part, {name: values[part] for name, values in labels.items()})
        for part in (rows[:cut], rows[cut:])
    )
    recipe = Recipe(**run.recipe)
    return Task(structure, classes, recipe, faces.crops, train, val, weights)
