"""Every page is that of the kept results: making it again changes nothing."""

from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.catalogue import PAGES

ROOT = Path(__file__).parents[2]
KEPT = ("benchmarks/results", "experiments/results")
EVIDENCE = Path("docs/evidence.md")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with the kept results and no page."""
    for folder in KEPT:
        (tmp_path / folder).parent.mkdir()
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(folder):
    """Every file that was made, relative to the folder."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".svg"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def pages_of(folder):
    return {name: text for name, text in made(folder).items() if "results/" not in name}


def require_unchanged(files):
    assert [name for name, text in files.items() if text != (ROOT / name).read_bytes()] == []


@pytest.mark.parametrize("page", [page.stem for page in PAGES if page != EVIDENCE])
def test_a_page_made_again_is_the_same(page, checkout):
    assert main(["pages", page]) == 0
    files = pages_of(checkout)
    assert any(name.endswith(f"{page}.md") for name in files)
    require_unchanged(files)


def test_the_page_of_evidence_made_again_is_the_same(checkout, monkeypatch):
    monkeypatch.setattr("mipp.experiments.report.draw_panels", lambda *_: "")  # seconds of drawing
    assert main(["pages", "evidence"]) == 0
    require_unchanged(pages_of(checkout))


@pytest.mark.slow
def test_every_page_and_figure_made_again_is_the_same(checkout):
    assert main(["pages"]) == 0
    files = pages_of(checkout)
    assert {str(page) for page in PAGES} < files.keys()
    assert len([name for name in files if name.endswith(".png")]) > 40
    require_unchanged(files)


def test_an_unknown_page_is_refused_with_those_that_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["pages", "acuracy"])
    assert "did you mean accuracy" in capsys.readouterr().err


def test_without_kept_results_the_page_of_evidence_says_what_is_missing(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["pages", "evidence"]) == 2
    assert "holds none" in capsys.readouterr().err


def test_the_list_names_every_benchmark_and_its_page(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    for name in ("accuracy ", "cost.search", "validation.zoo", "docs/search.md"):
        assert name in shown


def test_pages_are_those_of_modules_that_can_write_them():
    for page, module in PAGES.items():
        assert (ROOT / page).is_file()
        assert callable(import_module(f"benchmarks.{module}").write_page)
