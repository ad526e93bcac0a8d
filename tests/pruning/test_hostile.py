"""Whatever is passed to `mipp.prune`: a right answer, or a `MippError` whose words help.

Every row of three tables is tried beside sound others, and then rows of all three at random. The
caller's network, batches, modes and random numbers are left as they were in any case.
"""

import itertools
import random
import re
import time
import warnings

import pytest
import torch
from torch import nn
from torch.nn.parameter import is_lazy

import mipp
from mipp.errors import DataError, ModelError, ScoreError
from mipp.inputs import tensors_in
from tests.pruning.hostile_arguments import ARGUMENTS
from tests.pruning.hostile_batches import BATCHES, X, Y
from tests.pruning.hostile_networks import NETWORKS, Net

SECONDS = 10.0  # for any call, on a machine that does other things too
MIXED = 90
# what only somebody who reads mipp's code could know
INTERNAL = re.compile(r"\bassert|Traceback|\b_[a-z]+\(|mipp/|LinAlg")
DERIVED = (  # networks that have something to do with gradients
    "made in inference mode", "frozen", "with gradients", "weight computed before", "spectral norm",
    "shared weight", "None later", "detached", "no gradients", "through numpy", "an item", "random",
    "classes out", "scalar out", "list out", "half of it double", "in train mode", "drifts",
)  # fmt: skip
MENDING = ("xpected", "choose from", "install it")  # one of which every error holds
RANDOM = ("random", "random branch")  # networks that draw global random numbers themselves


def _cases():
    yield from ((name, "sound", {}) for name in NETWORKS)
    yield from ((name, "sound", {"method": "taylor"}) for name in NETWORKS if name in DERIVED)
    yield from (("sound", name, {}) for name in BATCHES)
    yield from (("sound", name, {"method": "taylor"}) for name in BATCHES if "label" in name)
    yield from (("sound", "sound", arguments) for arguments in ARGUMENTS)
    draw = random.Random(0)
    for _ in range(MIXED):
        yield draw.choice(list(NETWORKS)), draw.choice(list(BATCHES)), draw.choice(ARGUMENTS)


CASES = list(_cases())
TRIED = [  # of three, one is in the default run
    case if number % 3 == 0 else pytest.param(case, marks=pytest.mark.slow)
    for number, case in enumerate(CASES)
]


def _named(case):
    network, batches, arguments = case
    said = ", ".join(f"{k}={str(v)[:30]}" for k, v in arguments.items())
    return f"{network}, {batches}, " + re.sub(r" at 0x\w*", "", said)  # another in every process


def _bits(tensor):
    if is_lazy(tensor) or tensor.is_meta or tensor.layout is not torch.strided:
        return None
    return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def _state(model):
    """All that a caller could see of a network, bit for bit."""
    if isinstance(model, torch.jit.ScriptModule) or not isinstance(model, nn.Module):
        return None
    tensors = {
        name: (id(tensor), _bits(tensor), tensor.requires_grad, tensor.grad is None)
        for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers())
    }
    modules = {
        name: (
            id(module),
            module.training,
            [len(hooks) for key, hooks in vars(module).items() if key.endswith("_hooks")],
            sorted(vars(module)),
        )
        for name, module in model.named_modules()
    }
    return tensors, modules


def _surroundings():
    """What a call could change around it."""
    drawn = torch.get_rng_state().sum()
    modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()
    return drawn, modes, torch.get_num_threads(), _bits(X), _bits(Y)


def _outputs(model):
    """A network's outputs of sound inputs, None where it does not take these."""
    try:
        with torch.no_grad():
            network = getattr(model, "_orig_mod", model)  # compiling takes long
            return tensors_in(network.eval()(X[:3].clone()))
    except Exception:  # of the network's own code
        return None


def _require_right(found, model, budget):
    """The pruned network keeps no more than it may, and runs where the given one does."""
    report = found.report
    kind, _, share = budget.strip().partition(":")
    if kind.strip() in ("macs", "params"):
        kept, whole = {
            "macs": (report.macs, report.macs_dense),
            "params": (report.params, report.params_dense),
        }[kind.strip()]
        assert kept <= (float(share) + 0.02) * whole
    for name, kept in found.selection.kept.items():
        assert 0 < len(kept) <= found.selection.width[name]
    dense = _outputs(model)
    if dense is not None and all(bool(t.isfinite().all()) for t in dense):
        outputs = _outputs(found.model)
        assert [t.shape for t in outputs] == [t.shape for t in dense]
        assert all(bool(t.isfinite().all()) for t in outputs)


def _require_helpful(error):
    text = str(error)
    assert any(word in text for word in MENDING), text
    assert not INTERNAL.search(text), text


def _prune(model, calibration, arguments):
    """What a call gives, or the error that refuses it."""
    try:
        return mipp.prune(model, calibration, **{"budget": "macs:0.7", **arguments})
    except mipp.MippError as error:
        return error


@pytest.mark.filterwarnings("ignore:.*torch.*:DeprecationWarning", "ignore:.*quant.*:UserWarning")
@pytest.mark.parametrize("case", TRIED, ids=_named)
def test_a_call_is_answered_rightly_or_refused_in_words_that_help(case):
    network, batches, arguments = case
    with torch.random.fork_rng():
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what torch says to such networks
            model, calibration = NETWORKS[network](), BATCHES[batches]()
        before, around, started = _state(model), _surroundings(), time.perf_counter()
        found = _prune(model, calibration, arguments)
        assert time.perf_counter() - started < SECONDS
        assert _state(model) == before
        if network not in RANDOM:
            assert _surroundings() == around
        if isinstance(found, mipp.MippError):
            _require_helpful(found)
        else:
            _require_right(found, model, arguments.get("budget", "macs:0.7"))


def test_there_are_500_calls_and_some_are_answered():
    assert len(CASES) >= 500
    sound = [c for c in CASES if c[0] == "sound" and c[1] == "sound" and "method" not in c[2]]
    assert any(isinstance(_prune(Net(), [X], c[2]), mipp.Pruned) for c in sound)


@pytest.mark.parametrize("method", ["mipp", "taylor"])
@pytest.mark.parametrize("repair", ["refit", "recalibrate"])
@pytest.mark.parametrize(
    "context",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.bfloat16),
    ],
    ids=["no gradients", "inference mode", "autocast"],
)
def test_what_surrounds_a_call_changes_nothing(context, method, repair):
    torch.manual_seed(0)
    model, batches = Net(), BATCHES["sound"]()
    expected = mipp.prune(model, batches, "macs:0.6", method=method, repair=repair)
    with context():
        found = mipp.prune(model, batches, "macs:0.6", method=method, repair=repair)
    assert found.selection.counts() == expected.selection.counts()
    for name, tensor in found.model.state_dict().items():
        assert torch.equal(tensor, expected.model.state_dict()[name])
    assert all(p.requires_grad and not p.is_inference() for p in found.model.parameters())


def _failing(error):
    def fail(*_):
        raise error

    return fail


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (ModelError, lambda e: mipp.prune(Net(_failing(e)), [X])),
        (DataError, lambda e: mipp.prune(Net(), map(_failing(e), [X]))),
        (ScoreError, lambda e: mipp.prune(Net(), [(X, Y)], method=_failing(e))),
        (ScoreError, lambda e: mipp.prune(Net(), [(X, Y)], method="taylor", loss=_failing(e))),
        (ModelError, lambda e: mipp.prune(Net(), [X], calls=[_failing(e)])),
    ],
    ids=["forward", "loader", "criterion", "loss", "call"],
)
def test_what_a_callers_own_code_raises_is_the_cause_of_an_error_that_says_it(kind, call):
    own = KeyError("of my own")
    with pytest.raises(kind, match="KeyError: 'of my own'") as caught:
        call(own)
    assert caught.value.__cause__ is own


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_stops_a_program_stops_a_call(stop):
    with pytest.raises(stop):
        mipp.prune(Net(_failing(stop())), [X])
    with pytest.raises(stop):
        mipp.prune(Net(), map(_failing(stop()), [X]))
