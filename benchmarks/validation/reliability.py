"""Every promise of `promises` with its tests: cases run, failures, seconds.

Each promise's tests, slow ones too, run in a pytest of their own, and are counted from the XML
that it writes. A test that tries many cases says how many: `record_property("cases", n)`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.shared.command import add_again, circumstances, fitting, parse, parser
from benchmarks.shared.kept import RESULTS, Points
from benchmarks.shared.tables import markdown, print_table
from benchmarks.validation.promises import PROMISES, SECTIONS, Promise, Section
from mipp.progress import track

PAGE, FILE = Path("docs/reliability.md"), RESULTS / "reliability.csv"
KEY = ("promise", "tests")  # a row of other tests says nothing of a promise
COUNTS = ("cases", "skipped", "failures")
COLUMNS = (*KEY, *COUNTS, "seconds")
PAGE_TEXT = """# Reliability

Written by `python -m benchmarks.validation.reliability --write`: each promise with the tests that
fail where it does not hold, counted from what pytest reports. {verdict}

{sections}
"""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("validation.reliability", __doc__ or "", PAGE)
    options.set_defaults(threads=1)
    options.add_argument("--only", nargs="+", metavar="PATTERN", help="promises by name, with *")
    options.add_argument("--processes", type=int, default=2, help="of pytest, side by side")
    add_again(options)
    return parse(options, given)


def measure(promise: Promise, processes: int) -> dict[str, Any]:
    """Run a promise's tests.

    Raises
    ------
    RuntimeError : pytest ran none of them.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        told = ["-o", "junit_family=xunit1", f"--junitxml={report}"]  # with properties of tests
        tests = ["-q", "-m", "not gpu", *told, *promise.tests]
        beside = ["-n", str(processes), "--dist", "loadgroup"] if processes > 1 else []
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *beside, *tests], capture_output=True, text=True
        )
        if done.returncode not in (0, 1):  # passed, or some failed
            raise RuntimeError(f"{promise.name}: {done.stdout}{done.stderr}")
        if done.returncode:
            sys.stderr.write(done.stdout)
        return {**key_of(promise), **counts(ElementTree.parse(report))}


def key_of(promise: Promise) -> dict[str, str]:
    """What a row is found by."""
    return {"promise": promise.name, "tests": " ".join(promise.tests)}


def counts(report: ElementTree.ElementTree[Any]) -> dict[str, Any]:
    """Cases, skipped tests, failed tests and seconds of a pytest's XML."""
    tests = list(report.iter("testcase"))
    skipped = [test for test in tests if test.find("skipped") is not None]
    failed = [t for t in tests if t.find("failure") is not None or t.find("error") is not None]
    suites = report.iter("testsuite")
    return {
        "cases": sum(_cases(test) for test in tests if test not in skipped),
        "skipped": len(skipped),
        "failures": len(failed),
        "seconds": round(sum(float(suite.get("time", 0)) for suite in suites), 1),
    }


def _cases(test: ElementTree.Element) -> int:
    """As many as the test says that it tried; one where it says nothing."""
    told = [one for one in test.iter("property") if one.get("name") == "cases"]
    return int(told[0].get("value", 1)) if told else 1


def write_page() -> None:
    """The page of the rows that are kept."""
    kept = {(row["promise"], row["tests"]): row for row in points(FILE).all()}
    rows = {promise.name: kept.get(tuple(key_of(promise).values())) for promise in PROMISES}
    PAGE.write_text(
        PAGE_TEXT.format(
            verdict=verdict(rows.values()),
            sections="\n\n".join(_section(section, rows) for section in SECTIONS),
        )
    )


def points(file: Path | None) -> Points:
    """Rows as they are kept."""
    return Points(file, COLUMNS, KEY)


def verdict(rows: Iterable[Mapping[str, Any] | None]) -> str:
    """How many promises were tried, and how that ended, in words."""
    every = list(rows)
    measured = [row for row in every if row]
    cases, skipped, failures = (sum(row[name] for row in measured) for name in COUNTS)
    return (
        f"{len(measured)} of {len(every)} promises tried: {cases:,} cases, {failures} failures, "
        f"{skipped} tests skipped."
    )


def _section(section: Section, rows: Mapping[str, Mapping[str, Any] | None]) -> str:
    lines = [_line(promise, rows[promise.name]) for promise in section.promises]
    header = ("promise", "tests", *COUNTS, "seconds")
    return "\n".join([f"## {section.title}", "", section.words, "", *markdown(header, lines)])


def _line(promise: Promise, row: Mapping[str, Any] | None) -> list[Any]:
    tests = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in promise.tests)
    found = [row[name] for name in (*COUNTS, "seconds")] if row else ["not tried", "", "", ""]
    return [promise.says, tests, *found]


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    kept = points(FILE if options.write else None)
    names = fitting("--only", options.only or ["*"], [promise.name for promise in PROMISES])
    wanted = [promise for promise in PROMISES if promise.name in names]
    if not options.again:
        missing = kept.missing([key_of(promise) for promise in wanted])
        wanted = [promise for promise in wanted if key_of(promise) in missing]
    for promise in track(wanted, total=len(wanted), label="promises"):
        kept.add(measure(promise, options.processes))
    if kept.all():
        print_table(
            [{name: row[name] for name in COLUMNS if name != "tests"} for row in kept.all()]
        )
    circumstances(options)
    if options.write:
        write_page()


if __name__ == "__main__":
    main()
