"""`mipp params`: every parameter, for a file of them."""

from __future__ import annotations

import argparse
import json

from mipp.commands.arguments import add_json, add_params
from mipp.config import dump_params, load_params
from mipp.config.yaml_values import yaml_text

EPILOG = """\
examples:
  mipp params --set model.name=my_net:Net > params.yaml
  mipp params --config few.yaml --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = EPILOG
    add_params(parser)
    add_json(parser, "them")


def run(options: argparse.Namespace) -> int:
    """Print them as YAML, or as JSON."""
    params = dump_params(load_params(options.config, options.set))
    print(json.dumps(params) if options.json else yaml_text(params).rstrip("\n"))
    return 0
