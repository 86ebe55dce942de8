"""The console command `utkface-mtl`: one verb for each thing that is done by hand.

`dvc repro` runs the stages of dvc.yaml; these verbs do the rest.
"""

import argparse
import importlib
import sys

from stages.core.errors import UserError
from stages.core.stage import run_stage

# In the order in which a user meets them; each verb is the module of its name.
COMMANDS = {
    "predict": ("predict photo.jpg --model models/mtl-cnn", "age group, gender, race of each face"),
    "serve": ("serve --port 8000", "a web page and an HTTP endpoint on this machine"),
    "export": ("export mtl-cnn", "a trained model as ONNX and TFLite, checked against Keras"),
    "release": ("release mtl-mobilenet-160", "a trained run as the model of the package"),
    "variants": ("variants", "every variant with its parameters and arithmetic, as CSV"),
    "capacity": ("capacity --variants mtl-cnn", "how long trainings would take on this machine"),
    "tune": ("tune search mtl-vgg16-block5", "searches and ablations, as DVC experiments"),
    "suite": ("suite queue", "the published variants, as DVC experiments"),
    "train-on-cluster": ("train-on-cluster", "train the runs side by side on a Ray cluster"),
    "score": (
        "score --predictions mtl-cnn.csv --split split.csv --output again",
        "the metrics of a run again, from its predictions",
    ),
    "publish": ("publish --name mine", "figures into README.md and docs/, and their record"),
    "restore": ("restore utkface-aligned DIR", "a published record as a workspace"),
    "verify": ("verify", "find and remove what is damaged in cache and workspace"),
    "forget": ("forget 24_0_1_20170116220224657.jpg", "take an image out of all that holds it"),
}

# The extra of pyproject.toml that a verb needs, where it is not `train`.
EXTRAS = {
    "predict": "",
    "serve": "serve",
    "export": "export,train",
    "release": "export,train",
    "train-on-cluster": "cluster,train",
}


def main() -> None:
    """Hand the command line on to the verb that it names."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items())
    examples = "\n".join(f"  utkface-mtl {example}" for example, _ in COMMANDS.values())
    parser = argparse.ArgumentParser(
        prog="utkface-mtl",
        description=f"{__doc__}\nverbs:\n{listed}",
        epilog=f"examples:\n{examples}\n\n`utkface-mtl <verb> --help` lists the options of a verb.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", choices=COMMANDS, metavar="verb")
    verb = parser.parse_args(sys.argv[1:2]).verb
    sys.argv[:2] = [f"utkface-mtl {verb}"]
    run_stage(lambda: _run(verb))  # its import may lack memory too


def _run(verb: str) -> None:
    try:
        importlib.import_module(f"stages.commands.{verb.replace('-', '_')}").main()
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(verb, "train")
        if not extra or error.name is None or error.name.startswith("stages"):
            raise
        raise UserError(f"{verb} needs {error.name}: pip install '.[{extra}]'") from None


if __name__ == "__main__":
    main()
