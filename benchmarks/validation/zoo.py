"""Classification networks of torchvision and some of timm, pruned to half of their MACs.

Each network runs in a process of its own, at random weights, on random images: what is measured
is whether pruning works at all, not accuracy. Results are kept per network in a JSON file, so
that with --write a run that is cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import mipp
from benchmarks.shared.command import add_again, circumstances, measured_apart, parse, parser
from benchmarks.shared.kept import RESULTS, read_json, write_json
from benchmarks.shared.tables import markdown
from mipp.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mipp.cut import apply_selection
from mipp.errors import MippError
from mipp.evaluation import evaluating
from mipp.graph import ChannelGraph, build_graph
from mipp.models import ModelSpec, build_model
from mipp.models.torchvision_models import torchvision_names
from mipp.progress import track
from mipp.selection.selection import Selection
from tests.oracles import dropped_channels_zeroed

PAGE, FILE = Path("docs/models.md"), RESULTS / "zoo.json"
BUDGET = "macs:0.5"
SMALLEST = {"inception_v3": 96, "maxvit": 224, "vit": 224}  # 64 elsewhere
CLASSES = 10
TOLERANCE = 1e-9  # of the largest output, in double precision
CHECKS = ("forward", "budget", "identity", "checkpoint", "export", "backward")
COLUMNS = (
    *("network", "pixels", "images", "method", "result", "seconds", "groups", "MACs kept"),
    *("least", "left whole"),
)
EXPORT_TOLERANCE = 1e-4  # of the largest output, in single precision
TIMM = (
    "convnext_atto",
    "deit_tiny_patch16_224",
    "densenet121",
    "efficientnet_b0",
    "efficientnetv2_rw_t",
    "ghostnet_100",
    "hrnet_w18_small",
    "mixer_s32_224",
    "mobilenetv3_small_100",
    "mobilenetv4_conv_small",
    "regnety_004",
    "repvgg_a0",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "seresnet50",
    "swin_tiny_patch4_window7_224",
    "tf_efficientnetv2_b0",
    "vit_small_patch32_224",
    "vit_tiny_patch16_224",
)  # one or two of a family; any other name can be given


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("validation.zoo", __doc__ or "", PAGE)
    options.set_defaults(threads=1)
    add_again(options)
    options.add_argument(
        "--models", nargs="+", default=[], help="torchvision/NAME or timm/NAME; all if none"
    )
    options.add_argument("--size", type=int, help="of the images; the smallest that works if none")
    options.add_argument("--budget", default=BUDGET, help="choose.budget")
    options.add_argument("--method", default="mipp", help="or a rival: l1 takes seconds")
    options.add_argument("--images", type=int, default=64, help="random ones")
    options.add_argument("--timeout", type=float, default=300.0, help="seconds per network")
    options.add_argument(
        "--alone", action="store_true", help="one network, in this process, as JSON"
    )
    return parse(options, given, fixed=("budget",))


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Prune one network and try everything that people do with the result."""
    size, images, budget = options.size, options.images, options.budget
    spec = ModelSpec(name, CLASSES, 3, size)
    model = build_model(spec, seed=0).eval()
    enliven(model)
    params = sum(parameter.numel() for parameter in model.parameters())
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(images, 3, size, size, generator=generator)
    row: dict[str, Any] = {"size": size, "images": images, "params": params}
    row |= {"method": options.method, "torch": torch.__version__}
    started = time.perf_counter()
    try:
        graph = build_graph(model, inputs[:1])
        row["seconds_graph"] = time.perf_counter() - started
        row |= describe(graph)
        found = mipp.prune(
            model, inputs.split(16), budget, method=options.method, repair="none", images=images
        )
    except MippError as error:
        return row | {"refused": f"{type(error).__name__}: {error}"}
    row["seconds"] = time.perf_counter() - started
    row["share"] = found.report.macs / found.report.macs_dense
    row["forward"] = bool(found.model(inputs[:2]).isfinite().all())
    row["budget"] = abs(row["share"] - float(budget.partition(":")[2])) <= 0.02
    row["checkpoint"] = comes_back(found, spec)
    row |= exported(found.model, inputs[:4])
    row["backward"] = trains(found.model, inputs[:2])
    row["identity"] = is_identity(model, graph, found.selection, inputs[:2])
    return row


def enliven(model: nn.Module) -> None:
    """Statistics and zero-initialised weights that a mistake cannot hide behind."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert isinstance(module.running_mean, Tensor)
            assert isinstance(module.running_var, Tensor)
            module.running_mean.normal_(std=0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    for parameter in model.parameters():
        if not parameter.detach().any():
            parameter.data.normal_(std=0.02, generator=generator)


def describe(graph: ChannelGraph) -> dict[str, Any]:
    """Groups, the share of MACs that they touch, the least share, and what is left whole."""
    touched = sum(cost.macs for cost in graph.costs if cost.inputs or cost.outputs)
    touched += sum(product.macs for product in graph.products if product.factors)
    full = graph.macs(graph.widths)
    least = graph.macs(dict.fromkeys(graph.widths, 1)) / full
    whole = {m: r for m, r in graph.left_whole.items() if "network's output" not in r}
    reasons = Counter(re.sub(r"\S*\d\S*", "...", reason) for reason in whole.values())
    return {
        "groups": len(graph.groups),
        "touched": touched / max(full, 1),
        "least": least,
        "whole": len(whole),
        "reasons": dict(reasons.most_common()),
    }


def comes_back(found: mipp.Pruned, spec: ModelSpec) -> bool:
    """Whether the file that was saved rebuilds the same network bit by bit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_checkpoint(
            path, Checkpoint(found.model, spec, found.selection, (3, spec.size, spec.size))
        )
        read = load_checkpoint(path).model.state_dict()
    own = found.model.state_dict()
    return own.keys() == read.keys() and all(torch.equal(own[n], read[n]) for n in own)


def exported(model: nn.Module, inputs: Tensor) -> dict[str, Any]:
    """Whether the program read back from disk computes the same, and why not."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            [entry] = mipp.export_network(model, inputs.shape[1:], Path(folder))
        except MippError as error:
            return {"export": False, "export_error": str(error).replace("\n", " ")[:300]}
        run = torch.export.load(entry.path).module()
        with torch.no_grad():
            expected = model(inputs)
            found = torch.cat([run(part) for part in inputs.split(entry.batch or len(inputs))])
    off = (found - expected).abs().max() / expected.abs().max()
    return {"export": bool(off <= EXPORT_TOLERANCE), "batch": entry.batch}


def trains(model: nn.Module, inputs: Tensor) -> bool:
    """Whether every parameter that is used gets a finite gradient."""
    model.zero_grad()
    model(inputs).square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return bool(gradients) and all(bool(g.isfinite().all()) for g in gradients)


def is_identity(
    model: nn.Module, graph: ChannelGraph, selection: Selection, inputs: Tensor
) -> bool:
    """Whether the pruned network is the dense one with dropped channels zero where read."""
    model, inputs = model.double(), inputs.double()
    pruned = apply_selection(model, selection, inputs[:1])
    with torch.no_grad(), evaluating(model), evaluating(pruned):
        with dropped_channels_zeroed(model, graph, selection):
            expected = model(inputs)
        error = (pruned(inputs) - expected).abs().max()
    return bool(error <= TOLERANCE * expected.abs().max())


def measure_alone(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """`measure` in a fresh process; how it ended where it gave no result."""
    size = options.size or smallest(name)
    values = {
        "--alone": (),
        "--models": name,
        "--size": size,
        "--budget": options.budget,
        "--images": options.images,
        "--method": options.method,
        "--threads": options.threads,
    }
    started = time.perf_counter()
    try:
        row = measured_apart("validation.zoo", values, options.timeout)
    except subprocess.TimeoutExpired:
        return {"size": size, "failed": f"not done in {options.timeout:g} s"}
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        return {"size": size, "failed": lines[-1][:300]}
    return row | {"wall": time.perf_counter() - started}


def smallest(name: str) -> int:
    """Image size that is enough for the network."""
    library, _, bare = name.partition("/")
    if library == "timm":
        return 64  # those of a fixed size are told another
    return SMALLEST.get(bare, SMALLEST.get(bare.partition("_")[0], 64))


def names() -> list[str]:
    """All that the page lists: torchvision's, and timm's if it is installed."""
    found = [f"torchvision/{name}" for name in torchvision_names()]
    if importlib.util.find_spec("timm") is not None:
        found += [f"timm/{name}" for name in TIMM]
    return found


def verdict(row: Mapping[str, Any]) -> str:
    """`pass`, or what did not work."""
    if "failed" in row or "refused" in row:
        return str(row.get("failed") or row["refused"]).splitlines()[0]
    wrong = [check for check in CHECKS if not row.get(check, False)]
    why = f" ({row['export_error']})" if "export" in wrong and "export_error" in row else ""
    return "pass" if not wrong else "fails: " + ", ".join(wrong) + why


def table(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Markdown, a network per row."""
    return markdown(
        COLUMNS,
        (
            [
                name,
                row["size"],
                row.get("images"),
                row.get("method"),
                verdict(row),
                _digits(row, "seconds", 1),
                row.get("groups"),
                _digits(row, "share", 3),
                _digits(row, "least", 3),
                "; ".join(f"{count} {why}" for why, count in row.get("reasons", {}).items()),
            ]
            for name, row in sorted(results.items())
        ),
    )


def _digits(row: Mapping[str, Any], column: str, digits: int) -> str | None:
    return f"{row[column]:.{digits}f}" if column in row else None


def write_page() -> None:
    """The page of all networks that are kept."""
    PAGE.write_text(page(read_json(FILE)))


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """docs/models.md."""
    versions = sorted({row["torch"] for row in results.values() if "torch" in row})
    lines = "\n".join(table(results))
    return f"""# Networks that can be pruned

{counted(results, "torchvision/")}; {counted(results, "timm/")}.

Each was built at random weights (with lively batch-norm statistics) and pruned on random images
by `mipp.prune(model, images, budget="{BUDGET}", repair="none")`, with `method="l1"` where the
column says so: the same graph and surgery, without the time that information takes in wide layers.
A pass means: the pruned network runs; its share of MACs is within 0.02 of the budget; in double
precision it computes what the dense network computes with the dropped channels zero where they are
read and no layer-norm counting them in its statistics; saved and loaded it is the same bit by bit;
exported by `mipp.export_network` and read back it computes the same; and it can be trained.

{failures(results)}

*least* is the share of MACs with one channel left in every group; *left whole* counts the modules
whose outputs cannot be cut, with the reason (the classifier's own outputs are not listed). The
seconds are of one thread of a busy machine. Random weights say nothing about accuracy.

Made by `python -m benchmarks.validation.zoo --write`, with `--method` and `--images` as in each
row (torch {", ".join(versions)}).

{lines}
"""


def counted(results: Mapping[str, Mapping[str, Any]], prefix: str) -> str:
    """How many of a library's networks pass."""
    rows = [row for name, row in results.items() if name.startswith(prefix)]
    passed = sum(verdict(row) == "pass" for row in rows)
    return f"{passed} of {len(rows)} networks of {prefix.rstrip('/')} pass"


def failures(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The networks that do not pass, each with the reason."""
    found = {name: verdict(row) for name, row in sorted(results.items())}
    lines = [f"- `{name}`: {why}" for name, why in found.items() if why != "pass"]
    return "\n".join(["Those that do not:", "", *lines]) if lines else "All that were tried pass."


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    if options.alone:
        [name] = options.models
        print(json.dumps(measure(name, options)))
        return
    kept: dict[str, Any] = read_json(FILE) if options.write and FILE.exists() else {}
    wanted = options.models or names()
    wanted = [name for name in wanted if options.again or name not in kept]
    for name in track(wanted, total=len(wanted), label="networks"):
        kept[name] = measure_alone(options, name)
        print(name, verdict(kept[name]), f"{kept[name].get('wall', 0):.0f} s", flush=True)
        if options.write:
            write_json(FILE, dict(sorted(kept.items())))
    print("\n".join(table(kept)))
    circumstances(options)
    if options.write:
        write_page()


if __name__ == "__main__":
    main()
