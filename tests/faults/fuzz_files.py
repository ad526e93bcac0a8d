"""Files that are spoilt somewhere: read back as they were, or refused."""

import json
import shutil
import struct

import numpy as np
import torch
from fuzzing import spoilt_bytes, spoilt_value

import mipp
from mipp.activations import open_store, write_store
from mipp.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mipp.cut import apply_selection
from mipp.graph import build_graph
from mipp.models import ModelSpec, build_model
from mipp.selection.selection import Selection

FINGERPRINT = {"model": "a", "sampling": "b"}
PAIRS = {"up--down": (3, 2, 5), "down--head": (4, 1, 2)}  # channels, block, targets
LENET = ModelSpec("lenet-300-100", classes=10, channels=1, size=8)
INPUT = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)


def stores(folder):
    """A store whose chunks or descriptions are spoilt gives the rows that were written."""
    whole = folder / "whole.zarr"
    generator = torch.Generator().manual_seed(0)
    batches = [
        {
            name: (
                torch.randn(4, channels, block, generator=generator),
                torch.randn(4, targets, generator=generator),
            )
            for name, (channels, block, targets) in PAIRS.items()
        }
        for _ in range(3)
    ]
    write_store(whole, batches, FINGERPRINT)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())

    def store(rng):
        work = folder / "spoilt.zarr"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(whole, work)
        file = work / rng.choice(files)
        if rng.random() < 0.1:
            file.unlink()
        elif file.name == "zarr.json" and rng.random() < 0.7:
            file.write_text(json.dumps(spoilt_value(rng, json.loads(file.read_text()))))
        else:
            file.write_bytes(spoilt_bytes(rng, file.read_bytes()))
        opened = open_store(work, FINGERPRINT)
        for name in PAIRS:
            read = list(opened.rows(name))
            for side in (0, 1):
                expected = torch.cat([batch[name][side] for batch in batches]).numpy()
                found = np.concatenate([rows[side] for rows in read])
                assert np.array_equal(found, expected), (name, file)

    return store


def checkpoints(folder):
    """A checkpoint that is spoilt in its header, or anywhere, gives a network that runs."""
    model = build_model(LENET, seed=0).eval()
    pruned = mipp.prune(model, [INPUT.repeat(8, 1, 1, 1)], "macs:0.5", method="l1", repair="none")
    whole = folder / "whole.safetensors"
    save_checkpoint(whole, Checkpoint(pruned.model, LENET, pruned.selection, (1, 8, 8)))
    content = whole.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    recipe = json.loads(header["__metadata__"]["mipp"])

    def spoilt(rng):
        if rng.random() < 0.3:
            return spoilt_bytes(rng, content)
        if rng.random() < 0.3:
            changed = spoilt_value(rng, header)
        else:
            inner = dict(recipe)
            if rng.random() < 0.5:
                inner["selection"] = json.dumps(spoilt_value(rng, json.loads(recipe["selection"])))
            else:
                inner = spoilt_value(rng, recipe)
            changed = {**header, "__metadata__": {"mipp": json.dumps(inner)}}
        text = json.dumps(changed).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    def checkpoint(rng):
        file = folder / "spoilt.safetensors"
        file.write_bytes(spoilt(rng))
        read = load_checkpoint(file, lambda: build_model(LENET, seed=0))
        with torch.no_grad():
            assert read.model.eval()(INPUT).shape == (1, 10)

    return checkpoint


def selections(rng):
    """A selection of another network, or a spoilt one, cuts to just its widths or is refused."""
    names = ("lenet-300-100", "lenet5", "resnet20")
    own, other = rng.choice(names), rng.choice(names)
    selection = _whole(own)
    text = json.loads(selection.to_json())
    for _ in range(rng.choice((0, 1, 1, 2))):
        text = spoilt_value(rng, text)
    read = Selection.from_json(json.dumps(text))
    model, example = _network(other)
    cut = apply_selection(model, read, example)
    with torch.no_grad():
        assert cut.eval()(example).isfinite().all()
    widths = {name: group.width for name, group in build_graph(cut, example).groups.items()}
    several = {name: kept for name, kept in read.counts().items() if kept > 1}
    assert {name: width for name, width in widths.items() if width > 1} == several


def _network(name):
    if name not in _KNOWN:
        size = 8 if name == "lenet-300-100" else 16
        spec = ModelSpec(name, classes=10, channels=1, size=size)
        _KNOWN[name] = build_model(spec, seed=0).eval(), torch.zeros(1, 1, size, size)
    return _KNOWN[name]


def _whole(name):
    if (name, "kept") not in _KNOWN:
        model, example = _network(name)
        images = [torch.randn(8, *example.shape[1:], generator=torch.Generator().manual_seed(0))]
        found = mipp.prune(model, images, "macs:0.6", method="l1", repair="none")
        _KNOWN[name, "kept"] = found.selection
    return _KNOWN[name, "kept"]


_KNOWN: dict = {}
