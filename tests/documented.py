"""Code of pages: fenced blocks, run in their order as a reader would."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUN = ("python", "bash")  # what is shown only is fenced as console or text
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    """(language, code) of the blocks that are to be run."""
    found = FENCE.findall(Path(page).read_text())
    return [(language, code) for language, code in found if language in RUN]


def run_page(page, names, languages=RUN):
    """Run a page's blocks in the current folder; Python ones share `names`."""
    for place, (language, code) in enumerate(blocks(page)):
        if language not in languages:
            continue
        if language == "python":
            exec(compile(code, f"{page}, block {place}", "exec"), names)
        else:
            run_shell(code)


def run_shell(code):
    """Commands of a page, with this environment's programs before others."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{code}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
