"""The console command `utkface-mtl`: what a trained model is used with.

`utkface-mtl predict` is `python -m stages.predict`, and so on; each tells its options by --help.
"""

import argparse
import importlib
import sys

from stages.workspace.errors import run_node

COMMANDS = {
    "predict": "age group, gender and race of every face in pictures",
    "export": "a trained model as ONNX and TFLite, checked against Keras",
    "serve": "a web page and an HTTP endpoint on this machine",
}


def main() -> None:
    """Hand the command line on to the command that it names."""
    listed = "\n".join(f"  {name:9}{text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="utkface-mtl",
        description=f"{__doc__}\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS)
    command = parser.parse_args(sys.argv[1:2]).command
    sys.argv[:2] = [f"utkface-mtl {command}"]
    run_node(importlib.import_module(f"stages.{command}").main)


if __name__ == "__main__":
    main()
