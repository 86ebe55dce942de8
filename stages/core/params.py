"""params.yaml and variants.toml, read and checked as a whole before any work.

Each stage reads them whole and so finds a fault in any section, not only in its own. The YAML
reader is DVC's own (ruamel.yaml, YAML 1.2), so that both see the same values: PyYAML would take
the `1e-05` that `dvc exp run -S` writes for a string. Variants are TOML since DVC rewrites a
TOML file line by line, and wraps the lines of a YAML file at 80 columns.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, get_args

import tomlkit
from pydantic import BaseModel, Field, ValidationError, model_validator
from ruamel.yaml import YAML, YAMLError
from tomlkit.exceptions import TOMLKitError

from stages.core.errors import UserError
from stages.core.paths import PARAMS_FILE, VARIANTS_FILE
from stages.core.run_names import RunName, is_plain_name
from stages.core.sections import (
    AUTO,
    Audit,
    Classes,
    Cluster,
    Data,
    Detect,
    Evaluate,
    Machine,
    Pretrained,
    Report,
    Section,
    Seed,
    Split,
    Train,
    refuse,
    suggestion,
)
from stages.core.variants import (
    NO_AUGMENTATION,
    OF_THE_VARIANT,
    Augmentation,
    Average,
    Contrast,
    Recipe,
    Search,
    Variant,
    fault_of_rate,
)


class Params(Section):
    """The whole file."""

    runs: Annotated[list[str], Field(min_length=1)]
    averages: list[str]
    seed: Seed
    data: Data
    pretrained: Pretrained
    detect: Detect
    split: Split
    classes: Classes
    train: Train
    evaluate: Evaluate
    audit: Audit
    report: Report
    machine: Machine
    cluster: Cluster
    recipes: dict[str, Recipe]
    augmentations: dict[str, Augmentation]
    variants: dict[str, Variant]
    known_averages: dict[str, Average]
    contrasts: dict[str, Contrast]
    searches: dict[str, Search]

    @property
    def evaluated(self) -> list[str]:
        """All that are evaluated: the runs, then the averages."""
        return [*self.runs, *self.averages]

    @property
    def run_names(self) -> list[RunName]:
        """The names of all that are evaluated, parsed."""
        return [RunName.parse(run) for run in self.evaluated]

    @property
    def run_variants(self) -> list[str]:
        """The variants of the runs, each once, and the averages."""
        return list(dict.fromkeys(run.variant for run in self.run_names))

    @property
    def shows_pictures(self) -> bool:
        """Whether the report shows faces: auto means drawn ones only."""
        wanted = self.report.pictures
        return self.data.source == "demo" if wanted == AUTO else bool(wanted)

    @model_validator(mode="after")
    def _parts_fit(self) -> "Params":
        faults = [
            f"{section}: {name!r} is listed twice"
            for section in ("runs", "averages")
            for name, number in Counter(getattr(self, section)).items()
            if number > 1
        ]
        for text in self.runs:
            try:
                faults += self._faults_of_run(RunName.parse(text))
            except ValueError as error:
                faults.append(f"runs: {error}")
        for name in self.averages:
            faults += self._faults_of_average(name)
        faults += [
            f"{VARIANTS_FILE}: {name!r}: a name consists of letters, digits, '-' and '_', and "
            "begins with a letter or digit"
            for name in (*self.variants, *self.known_averages)
            if not is_plain_name(name)
        ]
        if NO_AUGMENTATION in self.augmentations:
            faults.append(f"augmentations: {NO_AUGMENTATION!r} means none; choose another name")
        refuse([*faults, *self._unknown_names(), *self._unfit_values()])
        return self

    def _faults_of_run(self, run: RunName) -> list[str]:
        if run.variant not in self.variants:
            near, known = suggestion(run.variant, self.variants), ", ".join(self.variants)
            return [f"runs: unknown variant {run.variant!r}{near}; known: {known}"]
        faults, variant = [], self.variants[run.variant]
        if run.suffix and run.variant not in self.runs:
            faults.append(f"runs: {run.text} needs {run.variant} beside it, to be compared with")
        if run.is_published_split and run.seed is not None:
            plain = run.text.removesuffix(f"+seed-{run.seed}")
            if plain not in self.runs:
                faults.append(f"runs: {run.text} needs {plain} beside it, which it is a seed of")
        if run.fold is not None and run.fold >= self.split.folds:
            advice = f"there are {self.split.folds}" if self.split.folds else "set split.folds"
            faults.append(f"runs: {run.text}: no such fold; {advice}")
        if run.seed == self.seed:
            faults.append(f"runs: {run.text}: {run.seed} is the seed of {run.variant} itself")
        if run.native and variant.preprocessing == "native":
            faults.append(f"runs: {run.text}: {run.variant} is native itself")
        if not any(getattr(self.train.task_weights, task) for task in variant.task_list):
            faults.append(f"train.task_weights: all tasks of {run.variant} have weight 0")
        recipe = self.recipes.get(variant.recipe)
        if recipe and not any(getattr(recipe.loss_weights, task) for task in variant.task_list):
            faults.append(
                f"recipes.{variant.recipe}.loss_weights: all tasks of {run.variant} have weight 0"
            )
        if recipe:
            faults += self._wrong_sizes(run.variant, variant, recipe)
        if fault := fault_of_rate(self.train, variant):
            faults.append(f"{fault} ({run.variant})")
        return faults

    def _wrong_sizes(self, name: str, variant: Variant, recipe: Recipe) -> list[str]:
        """Sides of images that do not fit to each other."""
        faults, size, side = [], self.detect.size, f"{VARIANTS_FILE}: {name}.input_side"
        if 0 < variant.input_side < size:
            words = f"must be 0 or at least detect.size, {size}: a network enlarges its images"
            faults.append(f"{side}: {words}")
        if recipe.progressive_fraction and variant.input_side:
            words = "whose progressive_fraction changes the size of the images"
            faults.append(f"{side}: must be 0 for recipe {variant.recipe}, {words}")
        if recipe.progressive_fraction and recipe.progressive_size > size:
            key = f"recipes.{variant.recipe}.progressive_size"
            faults.append(f"{key}: must be at most detect.size, {size}")
        return faults

    def _faults_of_average(self, name: str) -> list[str]:
        if (average := self.known_averages.get(name)) is None:
            near, known = suggestion(name, self.known_averages), ", ".join(self.known_averages)
            return [f"averages: unknown {name!r}{near}; {VARIANTS_FILE} has {known or 'none'}"]
        where = f"{VARIANTS_FILE}: averages.{name}"
        faults = [f"averages: {name!r} is a variant's name too"] if name in self.variants else []
        others = [member for member in average.members if member not in self.runs]
        faults += [f"{where}.members: {member!r} is not in runs" for member in others]
        if len(set(average.members)) != len(average.members):
            faults.append(f"{where}.members: lists a run twice")
        names = [RunName.parse(member) for member in average.members if member not in others]
        if len({name.split for name in names}) > 1:
            faults.append(f"{where}.members: are tested on different images")
        if any(name.is_published_split for name in names):
            faults.append(f"{where}.members: were trained on their test images")
        variants = [self.variants[name.variant] for name in names if name.variant in self.variants]
        if len({self._outputs_of(variant) for variant in variants}) > 1:
            faults.append(
                f"{where}.members: differ in their tasks, or in age_head of their recipes"
            )
        return faults

    def _outputs_of(self, variant: Variant) -> tuple[str, ...]:
        """What decides which outputs a network has."""
        recipe = self.recipes.get(variant.recipe)
        by_age = "age" in variant.task_list and recipe is not None
        return (*variant.task_list, *([recipe.age_head] if by_age and recipe else []))

    def _unfit_values(self) -> list[str]:
        """Values of grids that fit by themselves, but not the search's variant or images."""
        faults = []
        for name, search in self.searches.items():
            if search.variant not in self.variants:
                continue
            for key, values in search.grid.items():
                faults += [
                    f"searches.{name}.grid: {key} {value!r}: {fault}"
                    for value in values
                    for fault in self._misfits(search.variant, key, value)
                ]
        return faults

    def _misfits(self, name: str, key: str, value: object) -> list[str]:
        """What is wrong with a variant that has this value, and is not without it."""
        variant = changed = self.variants[name]
        if key in OF_THE_VARIANT:
            try:
                changed = Variant.model_validate(variant.model_dump() | {key: value})
            except ValidationError as error:
                return [fault["msg"] for fault in error.errors()]
        if (recipe := self.recipes.get(variant.recipe)) is None:
            return []
        known = self._wrong_sizes(name, variant, recipe)
        if key in Recipe.model_fields:
            recipe = recipe.model_copy(update={key: value})
        return [f for f in self._wrong_sizes(name, changed, recipe) if f not in known]

    def _unknown_names(self) -> list[str]:
        """References to a recipe, variant or augmentation that does not exist."""
        sets = (NO_AUGMENTATION, *self.augmentations)
        compared = (*self.variants, *self.known_averages)
        references: list[tuple[str, str, Iterable[str]]] = [
            *(
                (f"{VARIANTS_FILE}: {n}.recipe", v.recipe, self.recipes)
                for n, v in self.variants.items()
            ),
            *((f"recipes.{n}.augmentation", r.augmentation, sets) for n, r in self.recipes.items()),
            *(
                (f"searches.{n}.variant", s.variant, self.variants)
                for n, s in self.searches.items()
            ),
            *(
                (f"searches.{name}.grid.augmentation", str(value), sets)
                for name, search in self.searches.items()
                for value in search.grid.get("augmentation", [])
            ),
            *(
                (f"{VARIANTS_FILE}: contrasts.{name}", variant, compared)
                for name, contrast in self.contrasts.items()
                for variant in (*contrast.a, *contrast.b)
            ),
        ]
        return [
            f"{key}: unknown {value!r}{suggestion(value, known)}; known: {', '.join(known)}"
            for key, value, known in references
            if value not in known
        ]


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check the params file, and variants.toml beside it.

    Raises:
        UserError: a file is missing or cannot be parsed, or a name, type or value does not fit;
            the text names each key at fault and what it accepts.
    """
    variants = path.with_name(VARIANTS_FILE.name)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run from the project's top folder") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from error
    return parse_params(text, variants.read_bytes() if variants.is_file() else None, str(path))


def parse_params(text: str, variants: bytes | None, path: str) -> Params:
    """Check the content of a params file and of its variants.toml (None: missing).

    Raises:
        UserError: as `load_params`; `path` is how it names the params file.
    """
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from error
    if variants is None:
        raise UserError(f"{VARIANTS_FILE}: missing beside {path}")
    try:
        table = tomlkit.parse(variants).unwrap()
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise UserError(f"{VARIANTS_FILE}: not valid TOML: {error}") from error
    if isinstance(content, dict):
        if "variants" in content:
            raise UserError(f"{path}: variants stand in {VARIANTS_FILE}, one line each")
        averages, contrasts = table.pop("averages", {}), table.pop("contrasts", {})
        content = content | {"variants": table, "known_averages": averages, "contrasts": contrasts}
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path} does not fit:\n{explain(error)}") from None


def explain(error: ValidationError) -> str:
    """What does not fit, a line for each fault."""
    return "\n".join(f"  {_explain(dict(fault))}" for fault in error.errors())


def _explain(fault: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    if key.startswith("contrasts."):
        key = f"{VARIANTS_FILE}: {key}"
    elif key.startswith("variants."):
        key = f"{VARIANTS_FILE}: {key.removeprefix('variants.')}"
    elif key.startswith("known_averages."):
        key = f"{VARIANTS_FILE}: {key.removeprefix('known_')}"
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
