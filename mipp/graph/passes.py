"""The calls that a network is followed through: in eval mode, in train mode, and a user's own.

Aux: y = head(c(m)) in eval, (y, aux(m)) in train      two calls; `aux` reads m in the second alone

A call is followed only where it shows what those before it did not. Beside the example a network
runs on other inputs: where other operators or modules run then, forward depends on the data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mipp.device import device_of
from mipp.errors import ModelError, option, reason_of
from mipp.evaluation import evaluating
from mipp.graph.whole import largest_part
from mipp.hooked_mode import Hooked
from mipp.inputs import Call, Inputs, call, each, tensors_in
from mipp.layers import layer_of

Steps = list[tuple[str, str]]  # operators of a call with the modules that ran them
SCALES = (1.0, 0.1, 10.0, 100.0)  # of random inputs that look for modules which did not run yet


@dataclass(frozen=True)
class Pass:
    """One call of a network, as it is or cut, while it is in eval mode."""

    name: str
    run: Callable[[nn.Module, Inputs], Any]


@dataclass(frozen=True)
class Followed:
    """What the calls of a network showed.

    `passes` are to be repeated on any inputs, each with the operators that it ran, in order;
    `detours` ran on other inputs than the example and differed; `runs` counts the calls of each
    module that some pass reached.
    """

    passes: tuple[Pass, ...]
    steps: tuple[Steps, ...]
    detours: tuple[Inputs, ...]
    runs: Mapping[str, int]
    varying: frozenset[str]  # modules, and bare parameters, that are used for some inputs only
    unreached: Mapping[str, str]  # modules with parameters that no call used, and what to add


IN_EVAL = Pass("in eval mode", call)


def follow_calls(
    model: nn.Module, example: Inputs, calls: Sequence[Call] = (), others: Sequence[Inputs] = ()
) -> Followed:
    """Which calls of a network differ, and what none of them reaches.

    Parameters
    ----------
    calls : functions of (model, inputs), or names of methods that are given the inputs.
    others : more inputs, shape (1, ...), on which forward may do something else.

    Raises
    ------
    ModelError : a call fails, or forward depends on the data and modules were never reached.
    """
    plain = _watch(model, IN_EVAL, example)
    passes, sights, fault = [IN_EVAL], [plain], ""
    try:
        trained = _watch(model, IN_TRAINING, example)
        if trained != plain:
            passes.append(IN_TRAINING)
            sights.append(trained)
    except Exception as error:  # of the network's own code, which may ask for targets
        fault = reason_of(error)
    for asked in calls:
        passes.append(own_pass(model, asked))
        sights.append(_watch(model, passes[-1], example))
    generator = torch.Generator().manual_seed(0)
    given = [*others, _random(example, 1.0, generator)]
    seen = [plain, *(_watch(model, IN_EVAL, inputs) for inputs in given)]
    missed = _missed(model, (*sights, *seen))
    if missed:
        given += [_random(example, scale, generator) for scale in SCALES]
        seen += [_watch(model, IN_EVAL, inputs) for inputs in given[len(seen) - 1 :]]
        missed = _missed(model, (*sights, *seen))
    varying = _varying(seen)
    if varying and missed:
        raise ModelError(_unknown(model, varying, missed))
    detours = [x for x, sight in zip(given, seen[1:], strict=True) if sight.steps != plain.steps]
    runs = Counter[str]()
    for sight in (*sights, *seen):
        runs |= sight.runs
    why = f"no call reached it{f'; in train mode forward fails: {fault}' if fault else ''}"
    return Followed(
        tuple(passes),
        tuple(sight.steps for sight in sights),
        tuple(detours),
        runs,
        frozenset(varying),
        dict.fromkeys(missed, why),
    )


def runs_alike(model: nn.Module, followed: Followed, inputs: Inputs) -> bool:
    """Whether every pass runs on these inputs and does what it did on the example."""
    try:
        seen = [_watch(model, way, inputs).steps for way in followed.passes]
    except Exception:  # of the network's own code
        return False
    return seen == list(followed.steps)


@dataclass(frozen=True)
class _Sight:
    """What one call showed: operators in order with the module around them, and the outputs."""

    steps: Steps
    outputs: list[torch.Size]
    runs: Counter[str]  # by module
    uses: Counter[str]  # by parameter


class _Watcher(Hooked, TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which modules run and which operators run in them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.scope = model, [""]
        self.names = {id(parameter): name for name, parameter in model.named_parameters()}
        self.sight = _Sight([], [], Counter(), Counter())

    def hooks(self) -> Iterator[Any]:
        for name, module in self.model.named_modules():
            yield module.register_forward_pre_hook(partial(self._enter, name), with_kwargs=True)
            yield module.register_forward_hook(self._leave)

    def _enter(self, name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.scope.append(name)
        tensors = tensors_in((args, kwargs))
        self.sight.runs[name] += not tensors or any(tensor.numel() for tensor in tensors)

    def _leave(self, *_: Any) -> None:
        self.scope.pop()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        self.sight.steps.append((self.scope[-1], func.overloadpacket.__name__))
        for tensor in tensors_in((args, kwargs)):
            if name := self.names.get(id(tensor)):
                self.sight.uses[name] += 1
        return func(*args, **kwargs)


def _watch(model: nn.Module, way: Pass, inputs: Inputs) -> _Sight:
    watcher = _Watcher(model)
    with evaluating(model), torch.no_grad(), watcher:
        output = way.run(model, inputs)
    watcher.sight.outputs.extend(tensor.shape for tensor in tensors_in(output))
    return watcher.sight


class _Nothing(TorchFunctionMode):
    """Nothing is dropped at random, so that a cut network does what the whole one does."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", "")
        if "dropout" in name and not name.startswith("native"):
            return args[0] if args else kwargs["input"]
        if name == "bernoulli_":
            return args[0].fill_(1)
        if name == "scaled_dot_product_attention" and len(args) < 5:
            kwargs["dropout_p"] = 0.0
        return function(*args, **kwargs)


def _train(model: nn.Module, inputs: Inputs) -> Any:
    """In train mode, but for leaves, such as norms and dropout, and for layers that are known."""
    modules = [
        module
        for module in model.modules()
        if any(True for _ in module.children())
        and ((layer := layer_of(module)) is None or layer.role == "parts")
    ]
    for module in modules:
        module.training = True
    try:
        with seeded(model), _Nothing():
            return call(model, inputs)
    finally:
        for module in modules:
            module.training = False


IN_TRAINING = Pass("in train mode", _train)


@contextmanager
def seeded(model: nn.Module) -> Iterator[None]:
    """What is drawn in the block is the same every time, and leaves no trace."""
    device = device_of(model)
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(gpus):
        torch.default_generator.manual_seed(0)  # torch.manual_seed seeds every GPU
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(0)
        yield


def own_pass(model: nn.Module, asked: Call) -> Pass:
    """The pass that a user asks for."""
    name = asked if isinstance(asked, str) else getattr(asked, "__name__", repr(asked))
    if isinstance(asked, str) and not callable(getattr(model, asked, None)):
        raise ModelError(
            f"model {type(model).__name__} has no method {asked!r} ({option('calls')}).\nExpected "
            "names of its methods, or functions of (model, inputs), got none of that name; correct "
            "it."
        )

    def run(network: nn.Module, inputs: Inputs) -> Any:
        try:
            with seeded(network):
                if isinstance(asked, str):
                    return call(getattr(network, asked), inputs)
                return asked(network, inputs)
        except Exception as error:
            raise ModelError(
                f"the call {name} of model {type(model).__name__} fails "
                f"({option('calls')}): {reason_of(error)}.\nExpected a call that runs on the "
                "calibration inputs, in eval mode; correct it."
            ) from error

    return Pass(name, run)


def _random(example: Inputs, scale: float, generator: torch.Generator) -> Inputs:
    """Another input of the example's shape; what is no real number, such as an index, stays."""

    def drawn(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        return (scale * torch.randn(tensor.shape, generator=generator, device="cpu")).to(tensor)

    return each(example, drawn)


def _varying(seen: Sequence[_Sight]) -> set[str]:
    """What some inputs use more often than others."""
    first = seen[0]
    return {
        name
        for sight in seen[1:]
        for before, after in ((first.runs, sight.runs), (first.uses, sight.uses))
        for name in before.keys() | after.keys()
        if before[name] != after[name]
    }


def _missed(model: nn.Module, sights: Sequence[_Sight]) -> list[str]:
    """Modules with parameters of their own that were neither called nor had one used."""
    used = {name for sight in sights for name in (+sight.runs).keys() | sight.uses.keys()}
    ids = {id(parameter) for name, parameter in model.named_parameters() if name in used}
    return [
        name
        for name, module in model.named_modules()
        if (own := list(module.parameters(recurse=False)))
        and name not in used
        and not any(id(parameter) in ids for parameter in own)
    ]


def _unknown(model: nn.Module, varying: set[str], missed: Sequence[str]) -> str:
    some = ", ".join(missed[:5]) + (", ..." if len(missed) > 5 else "")
    sizes = {
        name: sum(p.numel() for p in module.parameters(recurse=False))
        for name, module in model.named_modules()
    }
    part = largest_part(sizes, {*varying, *missed})
    return (
        f"the forward of model {type(model).__name__} depends on its inputs: "
        f"{min(varying) or 'it'} runs for some of them only, and no input tried reached {some}.\n"
        "Expected every module to be reached, since what was not seen cannot be cut rightly; give "
        f"calls= a function of (model, inputs) that runs {missed[0]} too, or prune "
        f"{f'model.{part} by itself' if part else 'the parts of the network that always run'}."
    )
