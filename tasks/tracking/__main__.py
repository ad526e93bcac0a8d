"""`python -m tasks.tracking --workdir DIR` logs a finished work directory to MLflow."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mipp.config import load_params
from mipp.errors import InputError
from tasks.tracking import track


def main() -> int:
    """Log a finished work directory to MLflow."""
    parser = argparse.ArgumentParser(prog="python -m tasks.tracking", description=main.__doc__)
    parser.add_argument("--workdir", type=Path, default=Path("work"))
    parser.add_argument("--config", default=None, help="parameters in YAML, such as params.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    options = parser.parse_args()
    try:
        params = load_params(options.config, options.set)
        run_id = track(options.workdir, params)
    except InputError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 2
    if run_id:
        print(f"logged {options.workdir} to {params.tracking.uri} as run {run_id}")
    else:
        print(f"nothing was logged: tracking.uri is null; give an address to log {options.workdir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
