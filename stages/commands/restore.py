"""Unpack a published record into a new folder: `utkface-mtl restore NAME FOLDER`.

The folder then is a workspace without images and networks, in which `python -m stages.compare`
makes the tables and charts anew and `utkface-mtl score` every figure of one run.
"""

import argparse
from pathlib import Path

from stages.publishing.records import record_file, restore


def main() -> None:
    """Unpack the record that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of docs/results/<name>.tar.xz")
    parser.add_argument("folder", type=Path, help="a new one")
    arguments = parser.parse_args()
    number = restore(record_file(arguments.name), arguments.folder)
    folder = arguments.folder
    print(f"restore: {number} files in {folder}; next, in there: python -m stages.compare")
