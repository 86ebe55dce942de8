"""Generate the reference pages of docs/ from the code and the params files.

- Params: names, types and ranges from the schema; values and meanings from params.yaml and
  variants.toml, whose comments stand above a key or behind it.
- Commands: the docstring and the options of each stage and verb, from its own parser.
"""

import argparse
import importlib
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import tomlkit
from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML

from stages.commands.__main__ import COMMANDS
from stages.core.params import Params
from stages.core.paths import VARIANTS_FILE

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w.-]+):(?P<rest>.*)$")
_SIMPLE = {bool: "`true` or `false`", int: "integer", float: "number", str: "text"}
_BOUNDS = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}
_TITLES = {
    "variants": VARIANTS_FILE.name,
    "known_averages": f"{VARIANTS_FILE.name}: averages",
    "contrasts": f"{VARIANTS_FILE.name}: contrasts",
}
Rows = list[tuple[str, ...]]


class _ParserFoundError(Exception):
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def params_reference(path: Path) -> str:
    """All params as Markdown, one section for each at the top level.

    Args:
        path: of params.yaml; variants.toml stands beside it.
    """
    text = path.read_text(encoding="utf-8")
    content, comments = YAML(typ="safe", pure=True).load(text), read_comments(text)
    variants = path.with_name(VARIANTS_FILE.name).read_text(encoding="utf-8")
    content["variants"] = tomlkit.parse(variants).unwrap()
    content["known_averages"] = content["variants"].pop("averages")
    content["contrasts"] = content["variants"].pop("contrasts")
    comments[("variants",)] = _head_comment(variants)
    parts = []
    for name, field in Params.model_fields.items():
        head, comments = _head_of(name, field, comments)
        title = _TITLES.get(name, name)
        parts.append(f"## `{title}`\n\n{head}\n")
        rows = _rows(field, (name,), content[name], comments)
        rows = [(row[0].replace("`variants.", f"`{VARIANTS_FILE}:"), *row[1:]) for row in rows]
        if [row[0] for row in rows] == [f"`{name}`"]:
            _, accepts, value, _ = rows[0]
            parts.append(f"Accepts: {accepts}. Value: {value}\n".replace("\\|", "|"))
            continue
        lines = [("param", "accepts", "value", "meaning"), ("---",) * 4, *rows]
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n")
    return "\n".join(parts)


def _head_comment(text: str) -> str:
    """The comment at the top of a file."""
    lines = text.splitlines()
    head = lines[: next((i for i, line in enumerate(lines) if not line.startswith("#")), None)]
    return "\n".join(line.removeprefix("#").strip() for line in head)


def read_comments(text: str) -> dict[tuple[str, ...], str]:
    """The comments of a YAML file by key: the lines above the key, then the end of its line.

    Args:
        text: block style mappings, indented by two spaces; comments as in params.yaml.
    """
    found: dict[tuple[str, ...], str] = {}
    above: list[str] = []
    path: list[str] = []
    for line in text.splitlines():
        if line.strip().startswith("#"):
            above.append(line.strip().removeprefix("#").strip())
        elif match := _KEY.match(line):
            path[len(match["indent"]) // 2 :] = [match["key"]]
            behind = match["rest"].partition(" # ")[2]
            if behind or above:
                found[tuple(path)] = "\n".join([*above, *([behind] if behind else [])])
            above = []
        else:
            above = []
    return found


def command_reference(stages: Sequence[str]) -> str:
    """Stages and verbs as Markdown: the docstring and the options of each.

    Args:
        stages: names of the stages.
    """
    commands = {f"python -m stages.{stage}": f"stages.{stage}" for stage in stages}
    commands |= {f"utkface-mtl {verb}": module_of(verb) for verb in COMMANDS}
    parts = []
    for command, module in commands.items():
        parser = parser_of(module, command)
        doc = importlib.import_module(module).__doc__ or ""
        text = (doc if parser is None else parser.format_help()).strip()
        parts.append(f"## `{command}`\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def module_of(verb: str) -> str:
    """The module of a verb of `utkface-mtl`."""
    return f"stages.commands.{verb.replace('-', '_')}"


def parser_of(name: str, command: str = "") -> argparse.ArgumentParser | None:
    """The parser of a stage or verb; None if it takes no arguments.

    Args:
        name: of the module, as `stages.train`.
        command: how the parser names the program; default: `python -m <name>`.
    """
    module = importlib.import_module(name)
    if not any(hasattr(module, word) for word in ("argparse", "run_parser", "parse_arguments")):
        return None

    def stop(self: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        raise _ParserFoundError(self)

    before, argv = argparse.ArgumentParser.parse_args, sys.argv
    argparse.ArgumentParser.parse_args = stop  # type: ignore[method-assign, assignment]
    sys.argv = [command or f"python -m {name}"]
    try:
        module.main()
    except _ParserFoundError as error:
        return error.parser
    finally:
        argparse.ArgumentParser.parse_args = before  # type: ignore[method-assign]
        sys.argv = argv
    raise AssertionError(f"{name} did not parse its arguments first")


def _rows(
    field: FieldInfo, path: tuple[str, ...], value: Any, comments: Mapping[tuple[str, ...], str]
) -> Rows:
    """A row for each param below a field, or for the field itself."""
    annotation = field.annotation
    if model := _model(annotation):
        return [
            row
            for name, inner in model.model_fields.items()
            for row in _rows(
                inner,
                (*path, inner.alias or name),
                value[inner.alias or name],
                comments,
            )
        ]
    if get_origin(annotation) is dict and (model := _model(get_args(annotation)[1])):
        first = next(iter(value))  # all entries have the same keys; the first has the comments
        rows = [
            row
            for name, inner in model.model_fields.items()
            for own in [value[first].get(name, inner.default)]
            for row in _rows(inner, (*path, first, name), own, comments)
        ]
        shown = f"{'.'.join(path)}.{first}."
        return [(row[0].replace(shown, f"{'.'.join(path)}.<name>."), *row[1:]) for row in rows]
    # The comment of a mapping holds for each of its params. "*" is the comment above the section.
    places = [path[:n] for n in range(len(path), 1, -1)]
    places += [(path[0], "*", *place[2:]) for place in places]
    meaning = next((comments[place] for place in places if place in comments), "")
    meaning = meaning.replace("\n", " ")
    if get_origin(annotation) is Literal:  # its values stand beside it already
        meaning = meaning.removesuffix(" | ".join(map(_written, get_args(annotation)))).rstrip(" ;")
    cells = (".".join(path), _accepts(annotation, field.metadata), _value(value), meaning)
    return [(f"`{cells[0]}`", *(_escaped(cell) for cell in cells[1:]))]


def _model(annotation: Any) -> type[BaseModel] | None:
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_model else None


def _accepts(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """The values that are accepted, in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):  # Annotated
        return _accepts(inner[0], annotation.__metadata__)
    if origin is Literal:
        return ", ".join(f"`{_written(value)}`" for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(_accepts(part) for part in inner)
    if origin is list:
        least = "not empty, " if any(isinstance(m, MinLen) for m in _flat(metadata)) else ""
        return f"list, {least}each: {_accepts(inner[0])}"
    if origin is dict:
        return f"mapping of names to: {_accepts(inner[1])}"
    bounds = [
        f"{sign} {getattr(limit, name)}"
        for limit in _flat(metadata)
        for kind, (sign, name) in _BOUNDS.items()
        if isinstance(limit, kind)
    ]
    # A pattern is shown by its description, in words.
    asked = [each.description for each in metadata if getattr(each, "description", None)]
    return ", ".join([_SIMPLE[annotation], *asked, *bounds])


def _flat(metadata: Sequence[Any]) -> list[Any]:
    """Constraints, those of pydantic's `Field` taken apart."""
    return [
        limit
        for each in metadata
        for limit in (each.metadata if isinstance(each, FieldInfo) else [each])
    ]


def _value(value: Any) -> str:
    return f"`{_written(value)}`"


def _written(value: Any) -> str:
    """As in YAML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_written(each)}" for key, each in value.items()) + "}"
    return str(value)


def _escaped(cell: str) -> str:
    cell = cell.replace("|", "\\|")
    return cell if "`" in cell else cell.replace("<", "&lt;")


def _head_of(
    name: str, field: FieldInfo, comments: Mapping[tuple[str, ...], str]
) -> tuple[str, dict[tuple[str, ...], str]]:
    """The comment on a section as a whole, and all comments with those on its single params.

    The comment names a param at the beginning of a sentence: `epochs: of each training.`
    """
    annotation = field.annotation
    many = get_origin(annotation) is dict
    model = _model(get_args(annotation)[1] if many else annotation)
    fields = model.model_fields if model else {}
    text = comments.get((name,), "") or (model.__doc__ or "" if model else "")
    head, *said = re.split(rf"(?:^|(?<=[.] )|(?<=\n))({'|'.join(fields) or name}):\s", text)
    own = {
        (name, *(("*",) if many else ()), param): what.strip(" .\n")
        for param, what in zip(said[::2], said[1::2], strict=True)
        if param in fields
    }
    if not fields and said:
        head = said[1]
    head = head.replace("<", "&lt;").replace("\n", " ").strip()
    return head[:1].upper() + head[1:], own | dict(comments)
