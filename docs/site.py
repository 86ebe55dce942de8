"""Hooks of mkdocs (`hooks` in mkdocs.yml).

- The reference of params and commands is generated from the code at each build.
- A link to a file of the project that is no page of the site becomes plain text.
"""

import os
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from docs.reference import command_reference, params_reference

TOP = Path(__file__).parents[1]
LINK = re.compile(r"!?\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in the generated parts and drop the links that lead out of the site."""
    generate = {
        "params": lambda: params_reference(TOP / "params.yaml"),
        "commands": lambda: command_reference(stage_names()),
    }
    for name, make in generate.items():
        mark = f"<!-- generated: {name} -->"
        if mark in markdown:
            markdown = markdown.replace(mark, make())
    folder = Path("docs", page.file.src_uri).parent
    return LINK.sub(lambda link: _within_site(link, folder), markdown)


def stage_names() -> list[str]:
    """The modules of the stages of dvc.yaml, in their order."""
    stages = YAML(typ="safe").load(TOP / "dvc.yaml")["stages"]
    commands = [stage.get("do", stage)["cmd"].split()[2] for stage in stages.values()]
    return [module.removeprefix("stages.") for module in dict.fromkeys(commands)]


def _within_site(link: re.Match[str], folder: Path) -> str:
    target = link["target"].partition("#")[0]
    if not target or re.match(r"^[a-z]+:", target):
        return link[0]
    path = os.path.normpath(folder / target)
    if path.startswith("docs/") or not (TOP / path).exists():  # mkdocs reports a dead link
        return link[0]
    return link["text"]
