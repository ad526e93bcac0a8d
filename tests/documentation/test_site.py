"""The site names every page, public name and parameter there is, and its links lead somewhere."""

import re
from pathlib import Path

import pytest
import yaml

import mipp
from docs.building.architecture import drawing, heights, imports_of_packages, needed
from docs.building.commands import helps
from docs.building.docstrings import as_markdown
from docs.building.parameters import tables, words_of_fields
from mipp.commands.table import COMMANDS
from mipp.config import Params

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
WRITTEN = [ROOT / "README.md", *PAGES]
BROUGHT = {"changelog.md", "contributing.md", "results.md", "architecture.svg"}  # made when built
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


class Loader(yaml.SafeLoader):
    """Takes the names of Python functions that mkdocs.yml holds for what they are: text."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/name:", lambda loader, name, node: name)


def leaves(nav):
    """Every page that a navigation names."""
    if isinstance(nav, str):
        return [nav]
    children = nav.values() if isinstance(nav, dict) else nav
    return [page for child in children for page in leaves(child)]


def prose(page):
    """A page without what stands between fences."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    """Names of a page's headings, as links say them."""
    titles = (re.sub(r"[`*]", "", title).lower() for title in HEADING.findall(prose(page)))
    return {re.sub(r"[^\w]+", "-", title).strip("-") for title in titles}


def test_every_page_is_in_the_navigation_once():
    nav = leaves(yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)["nav"])
    pages = {str(page.relative_to(DOCS)) for page in PAGES}
    assert sorted(nav) == sorted(pages | (BROUGHT - {"architecture.svg"}))


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page):
    broken = []
    for link in LINK.findall(prose(page)):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        leads = target.exists() and (not anchor or anchor in anchors(target))
        if not leads and path not in BROUGHT:
            broken.append(link)
    assert broken == []


def test_every_public_name_has_its_entry_in_the_reference():
    text = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    entries = re.findall(r"^::: mipp\.(\w+)$", text, re.MULTILINE)
    assert sorted(name for name in entries if name != "errors") == sorted(mipp.__all__)


def test_every_parameter_has_a_line_that_says_what_it_does():
    words = words_of_fields((ROOT / "params.yaml").read_text())
    table = tables(ROOT / "params.yaml")
    for section, rows in Params().model_dump().items():
        for name in rows if isinstance(rows, dict) else ():
            field = f"{section}.{name}"
            assert len(words.get(field, "")) > 3, f"{field} has no comment in params.yaml"
            assert f"| `{field}` |" in table, field


def test_words_of_a_field_go_on_in_the_next_lines():
    text = (
        "train:  # the network\n  lr: 1 # how fast\n     # it learns\n  steps:\n    - 2 # of them\n"
    )
    expected = {"train": "the network", "train.lr": "how fast it learns", "train.steps": "of them"}
    assert words_of_fields(text) == expected


def test_docstrings_become_lists_and_code():
    text = "Short.\n\nParameters\n----------\nx : one\n    thing.\n\nExample\n-------\n>>> f(1)\n2"
    parts = "Short.", "**Parameters**", "- `x`: one\n  thing.", "**Example**"
    assert as_markdown(text) == "\n\n".join((*parts, "```pycon\n>>> f(1)\n2\n```"))


def test_packages_of_a_drawing_stand_above_what_they_import():
    graph = imports_of_packages(ROOT)
    levels = heights(graph)
    assert all(levels[package] > levels[other] for package in graph for other in graph[package])
    assert levels["flows"] > levels["tasks"] > levels["mipp.stages"] > levels["mipp.pruning"]
    assert "mipp.layers" not in needed(graph)["mipp.pruning"]  # follows from others
    assert drawing(graph).count("<rect") == len(graph)


def test_every_package_has_a_row_that_says_what_it_owns():
    rows = re.findall(r"^\| (`.*?) \|", (DOCS / "architecture.md").read_text(), re.MULTILINE)
    named = [name for row in rows for name in re.findall("`([a-z]+)`", row)]
    assert sorted(named) == sorted(p.removeprefix("mipp.") for p in imports_of_packages(ROOT))


def test_a_circle_of_packages_is_refused():
    with pytest.raises(ValueError, match=r"circle: \['a', 'b'\]"):
        heights({"a": frozenset("b"), "b": frozenset("a")})


def test_page_of_commands_has_the_help_of_each():
    page = helps()
    assert re.findall(r"^### mipp (.*)$", page, re.MULTILINE) == list(COMMANDS)
    assert page.count("usage: mipp ") == len(COMMANDS)
