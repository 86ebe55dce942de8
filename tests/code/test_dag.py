"""dvc.yaml: a node reruns when code changes that decides its outputs."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

TOP = Path(__file__).parents[2]
STAGES = YAML(typ="safe").load(TOP / "dvc.yaml")["stages"]
# What these do shows in no output: errors, how files are written and fetched, what is told on the
# way. params.py checks values; the values themselves are dependencies.
WITHOUT_EFFECT = {
    *(f"stages/workspace/{n}.py" for n in ("caches", "errors", "fetch", "files", "params")),
    *("stages/evaluation/progress.py", "stages/core/snapshot.py", "stages/profiling/trace.py"),
}


def imported(path: Path) -> Iterator[Path]:
    """The project's modules that a module imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        files = (TOP / f"{name.replace('.', '/')}.py" for name in names)
        yield from (
            file for file in files if file.is_file() and file.is_relative_to(TOP / "stages")
        )


def used_by(path: Path) -> set[str]:
    """The same of these modules too, and so on, and the module itself."""
    found, open_ends = set(), [path]
    while open_ends:
        if (module := open_ends.pop()) not in found:
            found.add(module)
            open_ends += imported(module)
    return {module.relative_to(TOP).as_posix() for module in found}


@pytest.mark.parametrize("stage", STAGES)
def test_a_node_depends_on_all_code_that_decides_its_outputs(stage: str):
    content = STAGES[stage].get("do", STAGES[stage])
    commands = content["cmd"] if isinstance(content["cmd"], list) else [content["cmd"]]
    used = set()
    for command in commands:
        _, _, module, *_ = command.split()
        used |= used_by(TOP / f"{module.replace('.', '/')}.py")
    deps = {dep for dep in content["deps"] if dep.startswith("stages")}
    folders = tuple(f"{dep}/" for dep in deps if not dep.endswith(".py"))
    lacking = {
        name for name in used - deps - WITHOUT_EFFECT if not name.startswith(folders or ("-",))
    }
    assert not lacking, f"{stage} does not rerun when these change"
    assert not {dep for dep in deps if dep.endswith(".py")} - used, f"{stage} does not use these"
