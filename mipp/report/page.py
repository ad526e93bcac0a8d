"""The report of one run: a self-contained page, the same in Markdown, and its figures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mipp.page.document import (
    Block,
    Code,
    Document,
    Facts,
    Notes,
    Picture,
    Section,
    Table,
    Text,
)
from mipp.page.html_page import html_page
from mipp.report.advice import advice
from mipp.report.cost import cost_table
from mipp.report.figures import FIGURES, draw_figures
from mipp.report.groups import group_widths, refit_table
from mipp.report.headline import facts, headline, what_was_done
from mipp.report.markdown_page import markdown_page
from mipp.report.notes import notes
from mipp.report.programs import program_table
from mipp.report.reproduce import command, made_with, unknown
from mipp.report.rounds import rounds_table
from mipp.report.run import Run, read_run
from mipp.report.table import HEADER, pruned_untrained, result_rows
from mipp.report.trade_off import trade_off_sentence, trade_off_table
from mipp.report.units import unit_table
from mipp.report.whole import whole_table


def render(workdir: Path, out: Path, *, title: str) -> None:
    """Write `report.html`, `report.md` and `figures/` from the stage folders of a run.

    The same stage folders give the same bytes.

    Parameters
    ----------
    workdir : the run's work directory.
    out : folder to write into.
    title : heading of the page.

    Raises
    ------
    WorkdirError : a stage that the report needs is missing.
    """
    run = read_run(workdir)
    figures = draw_figures(run, out / "figures")
    document = compose(run, title, figures)
    (out / "report.html").write_text(html_page(document, figures), encoding="utf-8")
    (out / "report.md").write_text(markdown_page(document), encoding="utf-8")


def compose(run: Run, title: str, figures: Iterable[str]) -> Document:
    """All that the report says, in order.

    Parameters
    ----------
    figures : names of the figures that there are.
    """
    return Document(
        title=title,
        done=what_was_done(run),
        headline=headline(run),
        sections=[
            Section("Result", [_result(run), Facts(facts(run)), *_rounds(run), *_programs(run)]),
            Section("Notes", [Notes(notes(run))]),
            *([Section("What to try next", [Notes(tips)])] if (tips := advice(run)) else []),
            Section("Groups", _groups(run)),
            *([Section("Left whole", [whole_table(run)])] if run.summary["whole"] else []),
            *([Section("Trade-off", _trade_off(run))] if run.trade_off else []),
            Section("Units", [unit_table(run)]),
            Section("Figures", [Picture(name, FIGURES[name].caption) for name in figures]),
            Section("Cost", [cost_table(run)]),
            Section("Reproduce", _reproduce(run)),
        ],
    )


def _result(run: Run) -> Table:
    images = run.metrics.get("test_images")
    tested = f"Accuracy on {images:,} test images" if images else "Accuracy on the test images"
    change = "" if pruned_untrained(run.metrics) else ", its change in points"
    return Table(
        HEADER,
        result_rows(run.metrics, run.epochs_after_pruning()),
        f"{tested}{change}; latency at batch {run.metrics['latency_batch']} on "
        f"{run.metrics['latency_device']}.",
    )


def _rounds(run: Run) -> list[Block]:
    return [rounds_table(run)] if run.rounds else []


def _programs(run: Run) -> list[Block]:
    return [program_table(run)] if run.metrics.get("exports") else []


def _trade_off(run: Run) -> list[Block]:
    return [Text(trade_off_sentence(run)), trade_off_table(run)]


def _groups(run: Run) -> list[Block]:
    return [group_widths(run), *([refit_table(run)] if run.fits else [])]


def _reproduce(run: Run) -> list[Block]:
    missing = unknown(run)
    return [
        Code(command(run)),
        *([Text(missing)] if missing else []),
        Text(made_with(run)),
    ]
