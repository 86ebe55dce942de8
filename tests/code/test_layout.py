"""The layout: what each package may import, one module for each stage and verb, short units."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.commands.__main__ import COMMANDS

TOP = Path(__file__).parents[2]
MODULES = sorted((TOP / "stages").rglob("*.py"))
# Lower packages first: each may import those that are listed, which all stand above it.
IMPORTS = {
    "core": "",
    "formats": "",
    "faces": "core",
    "parallel": "core",
    "raw": "core",
    "networks": "core formats",
    "identity": "core networks",
    "runs": "core networks",
    "weights": "core formats",
    "acquisition": "core raw weights",
    "dataset": "core faces",
    "detection": "core faces parallel raw",
    "splitting": "core dataset parallel",
    "auditing": "splitting",
    "learning": "core networks parallel",
    "profiling": "core learning networks",
    "evaluation": "core networks",
    "comparison": "core evaluation faces",
    "tuning": "core runs",
    "reporting": "comparison core evaluation runs tuning weights",
    "publishing": "core reporting",
    "inference": "core dataset detection formats networks raw weights",
}
LINES_OF_A_FUNCTION, LINES_OF_A_MODULE = 60, 400


def imports(path: Path) -> Iterator[str]:
    """The modules of the project that a module imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stages"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("stages"))


@pytest.mark.parametrize("package", IMPORTS)
def test_a_package_imports_only_what_lies_below_it(package: str):
    allowed = set(IMPORTS[package].split())
    below = list(IMPORTS)[: list(IMPORTS).index(package)]
    assert allowed <= set(below)
    files = (TOP / "stages" / package).glob("*.py")
    found = {name.split(".")[1] for file in files for name in imports(file)}
    assert found - {package} == allowed


def test_every_package_has_its_place():
    packages = {path.parent.name for path in MODULES if path.parent != TOP / "stages"}
    assert packages == {*IMPORTS, "commands"}


def test_no_stage_and_no_command_imports_another():
    stages = {f"stages.{path.stem}" for path in (TOP / "stages").glob("*.py")}
    for path in MODULES:
        for name in imports(path):
            assert not stages & {name}, f"{path}: {name} is a stage"
            if "commands" in path.parts:
                assert not name.startswith("stages.commands"), f"{path}: {name} is a command"


def test_stages_holds_exactly_the_stages_of_dvc_yaml():
    stages = YAML(typ="safe").load(TOP / "dvc.yaml")["stages"]
    modules = {path.stem for path in (TOP / "stages").glob("*.py")} - {"__init__"}
    contents = {name: stage.get("do", stage) for name, stage in stages.items()}
    again = {"evaluate-average"}  # the same stage for other names
    assert modules == set(stages) - again
    assert all(contents[name] == contents[name.partition("-")[0]] for name in again)
    for name in modules:
        assert contents[name]["cmd"].split()[:3] == ["python", "-m", f"stages.{name}"]


def test_each_verb_is_a_module_and_each_module_a_verb():
    modules = {path.stem for path in (TOP / "stages/commands").glob("[!_]*.py")}
    assert modules == {verb.replace("-", "_") for verb in COMMANDS}


def test_one_module_stands_on_what_dvc_does_not_document():
    documented = ("dvc.api", "dvclive")
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dvc":
                assert node.module in documented or path.name == "dvc_repo.py", path


def test_functions_and_modules_are_short():
    long = []
    for path in MODULES:
        text = path.read_text()
        if (lines := len(text.splitlines())) > LINES_OF_A_MODULE:
            long.append(f"{path}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > LINES_OF_A_FUNCTION:
                    long.append(f"{path}: {node.name} has {lines} lines")
    assert not long
