"""`mipp doctor`: what of this machine and installation a run will need, and has."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from mipp.commands.arguments import add_json, add_params, add_workdir
from mipp.config import load_params
from mipp.doctor import examine

SIGNS = {"good": "ok", "note": "--", "bad": "!!"}
DESCRIPTION = """\
Looks at what a run needs before it needs it: Python and packages within their bounds, the device,
memory, the data set, and speed and space of the work directory beside what the run at hand will
write. Nothing is changed. Exit code 2 where something would stop the run.
"""
EPILOG = """\
examples:
  mipp doctor                                      the run of the defaults
  mipp doctor --config params.yaml --workdir /data/run
  mipp doctor --set model.name=torchvision/resnet50 --set data.name=image-folder --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add_workdir(parser)
    add_params(parser)
    add_json(parser, "the findings")


def run(options: argparse.Namespace) -> int:
    """Print all findings; 2 where one of them would stop the run."""
    findings = examine(load_params(options.config, options.set), options.workdir)
    if options.json:
        print(json.dumps([asdict(one) for one in findings]))
    else:
        wide = max(len(one.what) for one in findings)
        print("\n".join(f"{SIGNS[one.state]}  {one.what:<{wide}}  {one.says}" for one in findings))
    return 2 if any(one.state == "bad" for one in findings) else 0
