"""dvc.yaml: a stage reruns when code changes that it imports, and for no other code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

TOP = Path(__file__).parents[2]
STAGES = YAML(typ="safe").load(TOP / "dvc.yaml")["stages"]


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


def content_of(stage: str) -> dict:
    return STAGES[stage].get("do", STAGES[stage])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_code_that_it_imports_and_on_no_other(stage: str):
    _, _, module, *_ = content_of(stage)["cmd"].split()
    used = used_by(TOP / f"{module.replace('.', '/')}.py")
    deps = [dep for dep in content_of(stage)["deps"] if dep.startswith("stages/")]
    covered: set[str] = set()
    for dep in deps:
        files = [TOP / dep] if dep.endswith(".py") else (TOP / dep).glob("*.py")
        covered |= {f.relative_to(TOP).as_posix() for f in files if f.name != "__init__.py"}
    assert used == covered


@pytest.mark.parametrize("stage", STAGES)
def test_a_folder_stands_for_its_modules_where_all_of_them_are_used(stage: str):
    deps = [Path(dep) for dep in content_of(stage)["deps"] if dep.startswith("stages/")]
    for folder in {dep.parent for dep in deps if dep.suffix and dep.parent != Path("stages")}:
        modules = {file.name for file in (TOP / folder).glob("*.py")} - {"__init__.py"}
        listed = {dep.name for dep in deps if dep.parent == folder}
        assert listed < modules, f"{stage}: name the folder {folder}"


def test_all_stages_follow_the_check_of_the_params():
    makers = {out: name for name in STAGES for out in outputs(name)}
    for name in STAGES:
        reached, open_ends = set(), [name]
        while open_ends:
            stage = open_ends.pop()
            if stage not in reached:
                reached.add(stage)
                data = [dep for dep in content_of(stage)["deps"] if not dep.startswith("stages/")]
                open_ends += [m for dep in data for out, m in makers.items() if touches(dep, out)]
        assert "validate" in reached, f"{name} would run before params.yaml is checked"


def outputs(stage: str) -> Iterator[str]:
    for key in ("outs", "metrics", "plots"):
        for out in content_of(stage).get(key, []):
            yield out if isinstance(out, str) else next(iter(out))


def touches(dep: str, out: str) -> bool:
    a, b = Path(dep), Path(out)
    return a == b or a in b.parents or b in a.parents


def test_only_an_interrupted_download_keeps_its_outputs():
    persisted = [
        path
        for name in STAGES
        for key in ("outs", "metrics", "plots")
        for out in content_of(name).get(key, [])
        if isinstance(out, dict)
        for path, settings in out.items()
        if settings.get("persist")
    ]
    assert persisted == ["data/raw"]
