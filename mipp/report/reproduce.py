"""The command that makes the same run again, and what it depends on."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from mipp.config import dump_params, load_params
from mipp.report.run import NEEDED, STAGES, Run

# YAML reads these words as something other than text
YAML_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
PLAIN_TEXT = re.compile(r"[A-Za-z/][\w./:@+-]*[\w/]|[A-Za-z]")


def command(run: Run) -> str:
    """`mipp run` with every parameter that differs from its default."""
    pieces = ["mipp run", *(f"--set {shlex.quote(text)}" for text in overrides(run.params))]
    return " \\\n  ".join(pieces)


def overrides(params: Mapping[str, Any]) -> list[str]:
    """Parameters that differ from the defaults, as `section.key=value`."""
    return [
        f"{key}={_yaml(value)}" for key, value in _differing(params, dump_params(load_params()))
    ]


def _differing(
    params: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    for key, default in defaults.items():  # in the order of params.yaml
        if key not in params:
            continue
        if isinstance(default, Mapping):
            yield from _differing(params[key], default, f"{prefix}{key}.")
        elif params[key] != default:
            yield f"{prefix}{key}", params[key]


def _yaml(value: Any) -> str:
    """A value so that YAML reads it back; JSON is YAML."""
    if isinstance(value, str) and PLAIN_TEXT.fullmatch(value):
        return _quoted(value) if value.lower() in YAML_WORDS else value
    return _quoted(value)


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def made_with(run: Run) -> str:
    """Versions and fingerprints of the result."""
    versions = run.manifests["evaluate"].versions
    packages = ", ".join(f"{name} {versions[name]}" for name in sorted(versions))
    return (
        f"Made with {packages}. Fingerprints: selection `{_fingerprint(run, 'choose')}`, final "
        f"network `{_fingerprint(run, 'finetune')}`."
    )


def unknown(run: Run) -> str:
    """Which stages' parameters the command leaves out because their folders are not there."""
    absent = [
        f"`{stage}`" for stage in STAGES if stage not in NEEDED and stage not in run.manifests
    ]
    return f"Parameters of {', '.join(absent)} are not known here." if absent else ""


def _fingerprint(run: Run, stage: str) -> str:
    return run.manifests[stage].digest()[:16]
