"""The package's own model anew, from a trained run: `utkface-mtl release <run>`, or `make release`.

Writes into stages/inference/released/:

- model.onnx, which `predict` and `serve` take where no other model is named;
- card.md, its model card; LICENCE.txt, the terms of its use;
- provenance.json: what it follows from, its figures, and how it compares with Keras;
- SHA256SUMS.

It refuses a run that the audit did not clear, whose probabilities are not calibrated, or that
learnt from drawn portraits, and a file that is too large or less accurate than the run's network.
"""

import argparse
from typing import Any

from stages.core.errors import UserError
from stages.core.files import atomic_write, digest, read_json, write_checksums, write_json
from stages.core.params import load_params
from stages.core.paths import (
    AUDIT_METRICS,
    CARDS,
    FACES,
    MODELS,
    NETWORK_FILE,
    SPLIT,
    RunPaths,
)
from stages.dataset.examples import read_examples
from stages.inference.models import RELEASED, open_model
from stages.inference.release import refuse_unfit, write_released
from stages.reporting.cards import card_of_file
from stages.reporting.licences import licence_of_model
from stages.runs.resolve import pretrained_parts, read_plan


def main() -> None:
    """Release the run named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a name under models/")
    run = parser.parse_args().run
    if "+" in run:
        words = "list it in [averages] of variants.toml, as the only member"
        raise UserError(f"{run}: only variants and averages have a model card; {words}")
    params, files, folder = load_params(), RunPaths(run), RELEASED.parent
    plan, model = read_plan(run), open_model(MODELS / run, "cpu")
    refuse_unfit(model, read_json(AUDIT_METRICS, "audit"), params.evaluated)
    card = CARDS / f"{run}.md"
    if not card.is_file():
        raise UserError(f"{card}: missing; run `dvc repro report`")
    # All is read before anything is written.
    facts = read_json(files.provenance, f"train@{run}")
    facts |= {"history": history_of(files), "split": digest(SPLIT)}
    licence = licence_of_model(params.data.source, pretrained_parts(plan))
    spec = model.input_spec
    test = read_examples(FACES, files.lists, "test", spec.tasks, spec.classes.age_upper_bounds)
    metrics = read_json(files.evaluation / "metrics.json", f"evaluate@{run}")
    compared = write_released(model, RELEASED, test, metrics)
    text = card_of_file(card.read_text(encoding="utf-8"), RELEASED, compared)
    with atomic_write(folder / "card.md") as partial:
        partial.write_text(text, encoding="utf-8")
    with atomic_write(folder / "LICENCE.txt") as partial:
        partial.write_text(f"The model in this folder may be used {licence.text}.\n")
    write_json(folder / "provenance.json", facts | {"metrics": metrics, "released": compared})
    write_checksums(folder)
    tasks = ", ".join(f"{task} {compared[task]['accuracy']:.3f}" for task in test.labels)
    print(f"release: {RELEASED.name} of {run}: {compared['megabytes']} MB, accuracy of {tasks}")


def history_of(files: RunPaths) -> dict[str, Any]:
    """The commit that the network was trained at; null where no training here made that network.

    An average has none, nor has a network from a cluster, a remote or DVC's run cache.
    """
    network = {NETWORK_FILE: digest(files.network)}
    if files.history.is_file():
        found = read_json(files.history, "train")
        if found.items() >= network.items():
            return found
    return network | {"commit": None, "changed": None}
