"""What mkdocs does not do by itself: see `hooks` in mkdocs.yml.

- The README is the first page, as it is.
- The reference of params and commands is made from the code, at each build.
- Pages link to files of the project, which have no place in the site: there the text stays.
"""

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from docs.reference import command_reference, params_reference

TOP = Path(__file__).parents[1]
NODES = (
    *("download", "plan", "pretrained", "detect", "split", "lists", "train", "evaluate"),
    *("audit", "compare", "report"),
)
COMMANDS = (
    *("predict", "export", "serve", "tune", "suite", "together", "variants", "capacity"),
    *("score", "publish", "restore", "forget"),
)
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
HOME = "README.md"


def on_files(files: Any, config: Any) -> Any:
    """Put the README in as the first page."""
    text = (TOP / HOME).read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in what is generated, and turn links around."""
    made = {
        "params": lambda: params_reference(TOP / "params.yaml"),
        "commands": lambda: command_reference([*NODES, *COMMANDS]),
    }
    for name, make in made.items():
        mark = f"<!-- generated: {name} -->"
        if mark in markdown:
            markdown = markdown.replace(mark, make())
    source = HOME if page.file.src_uri == "index.md" else f"docs/{page.file.src_uri}"
    return LINK.sub(lambda link: _turned(link, source), markdown)


def _turned(link: re.Match[str], source: str) -> str:
    target, _, anchor = link["target"].partition("#")
    if not target or re.match(r"^[a-z]+:", target):
        return link[0]
    path = os.path.normpath(Path(source).parent / target)
    place = "docs/index.md" if path == HOME else path
    if not (TOP / path).exists():
        return link[0]  # mkdocs will say so
    if not place.startswith("docs/"):
        return link["text"]
    start = "docs" if source == HOME else Path(source).parent
    turned = Path(os.path.relpath(place, start)).as_posix() + (f"#{anchor}" if anchor else "")
    return f"{link['picture']}[{link['text']}]({turned})"
