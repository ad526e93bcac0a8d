"""The first day of somebody new: a clone, the README's commands, and a network of their own.

What is committed is cloned into a new folder, with an environment of its own. Every step is a
command line that a reader types; each has to say what it should, or the visit ends there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shared.command import circumstances, parse, parser, where
from benchmarks.shared.kept import RESULTS, read_json, write_json
from benchmarks.shared.tables import markdown, print_table
from mipp.origin import SOURCE, commit
from mipp.progress import track

PAGE, FILE = Path("docs/newcomer.md"), RESULTS / "newcomer.json"
FILES = Path(__file__).with_name("newcomer_files")
TUTORIAL = SOURCE / "docs/tutorials/your-network.md"
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHECKOUT, OWN = "mipp", "shop"  # folders of the visit
REDONE = r": running"  # in what a command says of a stage

THEIRS = """\
import torch
from torch import nn

import mipp
from my_images import batches
from my_network import Net


def build():
    torch.manual_seed(0)
    return Net()


loader, model = batches(), build()
images = next(iter(loader))[0]
"""
SETTINGS = (
    "model.name=my_network:Net",
    "data.name=parquet",
    "data.root=images",
    "data.calibration=512",
    "train.epochs=8",
    "extract.rows=2048",
    "finetune.epochs=2",
)
SET = " ".join(f"--set {setting}" for setting in SETTINGS)
# Mistake -> what has to be in the line that tells of it.
MENDS = {
    "a loader of dicts": "write: [(b['image'], b['label']) for b in loader]",
    "a network in training mode": "MACs",  # pruned as in evaluation
    "eight images": "measured on 8 inputs, too few to tell units apart: give some hundred",
    'budget="0.5"': "write 'macs:0.5' to keep that share of the multiply-accumulates",
    "budget=0.5": "write 'macs:0.5' to keep that share of the multiply-accumulates",
    "channels last": "write: [(x.permute(0, 3, 1, 2), y) for x, y in loader]",
}
NO_GPU = "mipp run --config params.yaml --set compute.device=cuda:64"


@dataclass(frozen=True)
class Step:
    """A command line that a newcomer types."""

    name: str
    command: str
    shows: str = ""  # pattern that has to be in what it says
    folder: str = CHECKOUT
    lacks: str = ""  # pattern that must not be
    code: int = 0  # that it exits with


ENVIRONMENT = Step("an environment", "make .venv/.ready")
TESTS = Step("its tests", "make test", r"\d+ passed")
README = (
    Step("the main job", "make run", "removed: .* % of MACs"),
    Step("the same once more", "make run", "removed: .* % of MACs", lacks=REDONE),
)
MINE = (
    Step("a project", f"mipp init {OWN}", "has .*my_network.py", "."),
    Step("its test", "python -m pytest -q", "2 passed", OWN),
    Step(
        "their network and images in it",
        "rm test_my_network.py && cp ../brought/*.py . && python my_images.py && "
        f"mipp params {SET} > params.yaml && mipp dvc > dvc.yaml",
        folder=OWN,
    ),
    Step("what a run needs", "mipp doctor --config params.yaml", folder=OWN),
    Step("a run", "mipp run --config params.yaml", "removed: .* % of MACs", OWN),
    Step("the same once more", "mipp run --config params.yaml", "removed: ", OWN, lacks=REDONE),
    Step(
        "under DVC",
        "mv work plain && dvc init --no-scm && dvc repro && mipp compare plain work --json",
        '"agreement": 1.0',
        OWN,
    ),
    Step(
        "as a flow",
        "python -m flows.pipeline --config params.yaml --workdir flow && "
        "mipp compare plain flow --json",
        '"agreement": 1.0',
        OWN,
    ),
    Step("the first tutorial, with their network", "python tutorial.py", "MACs", OWN),
    Step("a GPU that is not there", NO_GPU, "set compute.device to auto or cpu", OWN, code=2),
)
MISTAKES = Step("mistakes", "python my_mistakes.py", folder=OWN)
PAGE_TEXT = """# The first day

Written by `{command}` at {commit}: a clone in a new folder, with a new environment, then the
commands of the README and the tutorials as somebody types them who brings a network and images of
their own. Every step says what it should, or no page is written. {where}

{steps}

{minutes:.0f} minutes in all. A folder of their own starts at `mipp init`; the run, DVC and the flow
there keep the same units. The tutorial is [the first](tutorials/your-network.md), with their
network in the place of its own.

## Mistakes

{mistakes}
"""
NOT_YET = """# The first day

Not measured: `python -m benchmarks.validation.newcomer --write` takes it and writes this page.
"""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("validation.newcomer", __doc__ or "", PAGE)
    options.add_argument(
        "--borrow", action="store_true", help="the packages of this environment, to try the script"
    )
    options.add_argument("--tests", action="store_true", help="`make test`, too")
    options.add_argument("--folder", type=Path, help="an empty one, kept; else a temporary one")
    return parse(options, given, fixed=("borrow",))


class Visit:
    """A folder in which somebody new works, and their commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        own = {"MIPP_CACHE": "cache", "PREFECT_HOME": "prefect", "XDG_CONFIG_HOME": "config"}
        self._environment = {
            **{name: text for name, text in os.environ.items() if name != "PYTHONPATH"},
            **{name: str(self.folder / place) for name, place in own.items()},
            "PATH": f"{self.folder / CHECKOUT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
        }

    def take(self, step: Step) -> dict[str, Any]:
        """A step's row: what was typed where, and the minutes that it took.

        Raises
        ------
        RuntimeError : it did not end, or say, what it should.
        """
        started = time.perf_counter()
        self.said(step)
        minutes = (time.perf_counter() - started) / 60
        return {"step": step.name, "in": step.folder, "command": step.command, "minutes": minutes}

    def said(self, step: Step) -> str:
        """All that a step's command says."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", step.command],
            cwd=self.folder / step.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lacks = not step.lacks or not re.search(step.lacks, done.stdout)
        if done.returncode == step.code and re.search(step.shows, done.stdout) and lacks:
            return done.stdout
        raise RuntimeError(
            f"{step.name} did not go as it should: {step.command} in {step.folder}\nExpected exit "
            f"code {step.code}, /{step.shows}/ and not /{step.lacks}/, got exit code "
            f"{done.returncode} and\n{done.stdout[-4000:]}"
        )

    def borrow(self) -> None:
        """An environment with the packages of this one, and the checkout in place of this mipp."""
        home = self.folder / CHECKOUT / ".venv"
        self._call("-m", "venv", "--without-pip", home)
        [site] = home.glob("lib/python*/site-packages")
        (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
        install = ("install", "--quiet", "--no-deps", "--no-build-isolation", "-e", home.parent)
        self._call("-m", "pip", "--python", home / "bin/python", *install)
        (home / ".ready").touch()

    def _call(self, *arguments: str | Path) -> None:
        subprocess.run([sys.executable, *arguments], check=True, env=self._environment)

    def bring(self) -> None:
        """Lay what the newcomer has at hand beside the checkout."""
        names = shutil.ignore_patterns("__init__.py", "__pycache__")
        shutil.copytree(FILES, self.folder / "brought", ignore=names)
        (self.folder / "brought/tutorial.py").write_text(tutorial(TUTORIAL.read_text()))


def tutorial(page: str) -> str:
    """The code of the first tutorial, with a network and images of theirs in place of its own."""
    _, *blocks = PYTHON_BLOCK.findall(page)
    return "\n".join([THEIRS, *blocks])


def visit(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Take every step; gives their rows, and the line that mends each mistake."""
    new = Visit(folder)
    typed = "git clone --quiet {} " + CHECKOUT
    cloned = new.take(Step("a clone", typed.format(SOURCE), folder="."))
    rows = [cloned | {"command": typed.format("ADDRESS")}]  # not where it lies on this machine
    if options.borrow:
        new.borrow()
    else:
        rows.append(new.take(ENVIRONMENT))
    new.bring()
    steps = (*README, *([TESTS] if options.tests else []), *MINE)
    for step in track(steps, total=len(steps), label="steps"):
        rows.append(new.take(step))
    lines = [line for line in new.said(MISTAKES).splitlines() if line.startswith('["')]
    return {"steps": rows, "mistakes": dict(mend(*json.loads(line)) for line in lines)}


def mend(mistake: str, words: str) -> tuple[str, str]:
    """A mistake with the line that mends it, of all that is said of it.

    Raises
    ------
    RuntimeError : no line does.
    """
    lines = [line.strip() for line in words.splitlines() if MENDS[mistake] in line]
    if not lines:
        raise RuntimeError(f"{mistake}: expected a line with {MENDS[mistake]!r}, got\n{words}")
    return mistake, lines[0]


def write_page() -> None:
    """The page of the visit that is kept."""
    if not FILE.exists():
        PAGE.write_text(NOT_YET)
        return
    found = read_json(FILE)
    steps = [[r["step"], f"`{r['command']}`", f"{r['minutes']:.1f}"] for r in found["steps"]]
    mistakes = [
        [f"`{name}`" if "=" in name else name, line] for name, line in found["mistakes"].items()
    ]
    PAGE.write_text(
        PAGE_TEXT.format(
            command=found["command"],
            commit=found["commit"],
            where=where(found),
            steps="\n".join(markdown(["step", "typed", "minutes"], steps)),
            minutes=sum(row["minutes"] for row in found["steps"]),
            mistakes="\n".join(markdown(["mistake", "what it says"], mistakes)),
        )
    )


def _code(text: str) -> str:
    """Text in which Markdown is to see no markup."""
    return f"`{text}`" if set(text) & set("=[]*_") else text


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = visit(folder, options)
    print_table([{"step": row["step"], "minutes": row["minutes"]} for row in found["steps"]])
    for mistake, line in found["mistakes"].items():
        print(f"{mistake}: {line}")
    kept = {**found, "commit": commit(), **circumstances(options)}
    if options.write:
        write_json(FILE, kept)
        write_page()


if __name__ == "__main__":
    main()
