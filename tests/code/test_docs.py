"""The documentation: it builds without a warning, fetches nothing, and its commands exist."""

import argparse
import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
import tomlkit
from _pytest.outcomes import Failed
from dvc.cli import DvcParserError
from dvc.cli import parse_args as parse_dvc
from ruamel.yaml import YAML

from docs.reference import module_of, params_reference, parser_of, read_comments
from docs.site import stage_names
from stages.commands.__main__ import COMMANDS
from stages.core.errors import UserError
from stages.core.params import Params, parse_params

TOP = Path(__file__).parents[2]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]
# Checked like the pages, but not in the site.
CHECKED = [*PAGES, TOP / "CONTRIBUTING.md", TOP / "CHANGELOG.md"]
IDS = [page.relative_to(TOP).as_posix() for page in CHECKED]
# Programs that are not the project's, as far as the pages use them.
OTHERS = {".", "cd", "curl", "export", "git", "mkdir", "pre-commit", "ray", "tar"}
TARGETS = set(re.findall(r"^([\w-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
EXTRAS = set(re.findall(r"^(\w+) = \[", (TOP / "pyproject.toml").read_text(), re.MULTILINE))
FAILURES = (
    *(AssertionError, SystemExit, ImportError, ValueError, DvcParserError, Failed),
    UserError,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a link or anchor that leads nowhere, or a page left out, fails."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder],
        cwd=TOP,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_has_every_page_and_fetches_nothing(site: Path):
    pages = {p.relative_to(site).as_posix() for p in site.rglob("*.html")}
    wanted = {p.relative_to(TOP / "docs").with_suffix(".html").as_posix() for p in PAGES[1:]}
    assert pages >= {*wanted, "index.html"}
    for page in site.rglob("*.html"):
        text = page.read_text()
        for tag in re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", text):
            assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", tag), (page.name, tag)
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", style.read_text()), style


def test_the_site_can_be_searched_as_files(site: Path):
    reason = "NOT TESTED in a browser: "
    playwright = pytest.importorskip("playwright.sync_api", reason=f"{reason}no playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip(f"{reason}no chromium")
    faults: list[str] = []
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto((site / "index.html").as_uri())
        page.get_by_label("Search", exact=True).first.click()
        page.get_by_role("textbox", name="Search").press_sequentially("equalised odds")
        found = page.locator(".md-search-result__link").first
        found.wait_for(timeout=20_000)
        target = found.get_attribute("href")
        browser.close()
    assert "explanation/metrics.html" in target
    assert not faults


def test_the_reference_has_every_param_and_every_option(site: Path):
    params = (site / "reference/params.html").read_text()
    content = YAML(typ="safe", pure=True).load(TOP / "params.yaml")
    keys = [f"{section}.{key}" for section in ("train", "machine") for key in content[section]]
    sections = [name for name in Params.model_fields if name != "variants"]
    for key in (*sections, *keys, "detect.scale.upscale", "variants.toml:"):
        assert f"<code>{key}" in params, key
    commands = (site / "reference/commands.html").read_text()
    for option in ("--no-detect", "--max-upload", "--variants"):
        assert option in commands
    for command in (*(f"python -m stages.{s}" for s in stage_names()), *COMMANDS):
        assert command in commands
    assert "generated:" not in params + commands


def test_types_ranges_and_meanings_stand_beside_the_params(tmp_path: Path):
    text = params_reference(TOP / "params.yaml")
    assert "| `split.folds` | integer, ≥ 0, ≤ 20 | `0` | for cross-validation" in text
    assert "| `detect.face` | `score`, `largest`, `central` | `score` | the face that" in text
    assert "| `variants.toml:<name>.epochs` | integer, ≥ 1, ≤ 1000 | `30` | passes over" in text
    assert (
        "| `variants.toml:<name>.trainable` | text | `all` | none \\| all \\| the first trainable"
        in text
    )
    # A pattern is shown in words.
    assert "text, in one line, no control character, first no space and none of `= + - @` |" in text
    assert "&lt;variant>[+native][+published-split | +fold-&lt;i>][+seed-&lt;n>]" in text
    assert "^" not in text
    changed = (TOP / "params.yaml").read_text().replace("margin: 0.2 #", "margin: 0.3 # NEW")
    (tmp_path / "params.yaml").write_text(changed)
    shutil.copy(TOP / "variants.toml", tmp_path)
    assert "| `detect.margin` | number, ≥ 0, ≤ 1 | `0.3` | NEW" in params_reference(
        tmp_path / "params.yaml"
    )


def test_comments_belong_to_the_key_that_they_stand_above_or_behind():
    text = "# file\n\n# of a\na:\n  # more of b\n  b: 1 # one\n  c:\n  - x # no key\n  d: 2\n"
    assert read_comments(text) == {("a",): "of a", ("a", "b"): "more of b\none"}


@pytest.mark.parametrize("page", CHECKED, ids=IDS)
def test_links_to_files_exist_and_those_outside_are_well_formed(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)]*)\)", text):
        if target.startswith("http"):
            address = urlparse(target)
            assert re.fullmatch(r"[\w-]+(\.[\w-]+)+", address.hostname or ""), target
            assert target == target.strip()
        elif not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), target


def _commands(page: Path) -> Iterator[list[str]]:
    """The commands in the shell blocks of a page, as lists of words."""
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(re.sub(r"\d?>(&\d| \S+)", "", line), posix=True)
            lexer.whitespace_split, lexer.commenters = True, "#"
            words: list[str] = []
            for word in [*lexer, ";"]:
                if word in ("&&", "|", ";", "&") or word.endswith(";"):
                    words += [word[:-1]] if word[:-1] not in ("", "&") else []
                    while words and re.match(r"[A-Z_]+=", words[0]):
                        words.pop(0)  # a variable for this command
                    if words:
                        yield words[1:] if words[0] == "nohup" else words
                    words = []
                else:
                    words.append(word)


LISTED = [
    pytest.param(words, id=f"{name}: {' '.join(words)}")
    for page, name in zip(CHECKED, IDS, strict=True)
    for words in _commands(page)
]


@pytest.mark.parametrize("words", LISTED)
def test_each_command_in_the_pages_exists_with_its_options(words: list[str]):
    program, *arguments = words
    if program == "python":
        _check_python(arguments)
    elif program == "utkface-mtl":
        assert arguments[0] in COMMANDS
        _parse(module_of(arguments[0]), arguments[1:])
    elif program == "make":
        assert {word for word in arguments if "=" not in word} <= TARGETS
    elif program == "dvc":
        _check_dvc(arguments)
    elif program == "pip":
        assert arguments[0] == "install"
        assert set(re.findall(r"\w+", "".join(re.findall(r"^\.\[(.*)\]", words[-1])))) <= EXTRAS
    else:
        assert program in OTHERS


def _check_python(arguments: list[str]) -> None:
    if arguments[0] != "-m":
        assert (TOP / arguments[0]).is_file()
    elif arguments[1].startswith("stages."):
        _parse(arguments[1], arguments[2:])
    elif arguments[1] == "pytest":
        assert all((TOP / word).exists() for word in arguments[2:] if word.startswith("tests"))
    else:
        assert (TOP / f"{arguments[1].replace('.', '/')}.py").is_file()


def _parse(name: str, arguments: list[str]) -> None:
    parser = parser_of(name)
    if parser is None:
        assert arguments == []
        return
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            argparse.ArgumentParser.parse_args(parser, arguments)
    except SystemExit:
        pytest.fail(said.getvalue())


def _check_dvc(arguments: list[str]) -> None:
    parsed = parse_dvc(arguments)
    files: dict[str, Any] = {
        "params.yaml": YAML().load(TOP / "params.yaml"),
        "variants.toml": tomlkit.parse((TOP / "variants.toml").read_text()),
    }
    for change in getattr(parsed, "set_param", None) or []:
        key, _, value = change.partition("=")
        file, _, key = key.rpartition(":")
        *sections, last = key.split(".")
        section = files[file or "params.yaml"]
        for name in sections:
            section = section[name]
        assert last in section, f"no param {key}"
        section[last] = YAML(typ="safe", pure=True).load(value)
    text = io.StringIO()
    YAML().dump(files["params.yaml"], text)
    parse_params(text.getvalue(), tomlkit.dumps(files["variants.toml"]).encode(), "params.yaml")


@pytest.mark.parametrize(
    "line",
    [
        *("python -m stages.train mtl-cnn --conditions seed-2", "python -m stages.trains mtl-cnn"),
        *("make reports", "dvc exp run -S train.max_epoch=3", "dvc exp run -S train.max_epochs=0"),
        *("dvc exp run -S variants.toml:mtl-cnn.rate=1", "dvc exp run -S 'runs=[mtl-cnm]'"),
        *("dvc queue start --worker 2", "utkface-mtl audit", "pip install -e '.[exports]'", "rm x"),
    ],
)
def test_a_command_that_does_not_exist_would_fail(line: str, tmp_path: Path):
    (tmp_path / "page.md").write_text(f"```sh\n{line}\n```\n")
    (words,) = _commands(tmp_path / "page.md")
    with (
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
        pytest.raises(FAILURES),
    ):
        test_each_command_in_the_pages_exists_with_its_options(words)


def test_the_script_for_labels_in_a_table_names_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("a.PNG").write_bytes(b"a")
    Path("labels.csv").write_text("file,age,gender,race\na.PNG,31,1,2\n")
    (script,) = re.findall(
        r"^```python\n(.*?)^```", (TOP / "docs/how-to/own-data.md").read_text(), re.DOTALL | re.M
    )
    exec(script, {})
    assert Path("named/31_1_2_000000.png").read_bytes() == b"a"
