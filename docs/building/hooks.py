"""What mkdocs makes beside the pages that are written: brought files, tables, the drawing."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.building.architecture import drawing, imports_of_packages
from docs.building.commands import helps
from docs.building.parameters import tables

ROOT = Path(__file__).parents[2]
# Files of the repository that are pages of the site, too.
BROUGHT = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "results.md": "benchmarks/RESULTS.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the brought pages, and the drawing of the packages."""
    for page, path in BROUGHT.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text()))
    svg = drawing(imports_of_packages(ROOT))
    files.append(File.generated(config, "architecture.svg", content=svg))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at the brought pages, and put tables where a page asks for them."""
    for name, path in BROUGHT.items():
        markdown = markdown.replace(f"](../{path})", f"]({name})")
    if page.file.src_uri == "reference/parameters.md":
        markdown += tables(ROOT / "params.yaml")
    if page.file.src_uri == "reference/commands.md":
        markdown += helps()
    return markdown
