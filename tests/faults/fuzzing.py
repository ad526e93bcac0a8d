"""Many seeded cases of one kind: each is answered rightly, or refused in words, before its time."""

import contextlib
import random
import re
import signal
import traceback

from mipp.errors import MippError

SECONDS = 30  # for any case, on a machine that does other things too
HELPFUL = ("xpected", "choose from", "install it", "did you mean")
INTERNAL = re.compile(r"Traceback|\bassert|mipp/\w+\.py")
ODD = (
    *(None, True, False, 0, -1, 1, 2, 0.5, -0.5, 1e-300, 1e300, 2**31, 2**63, 10**40),
    *(float("nan"), float("inf"), "", " ", "x", "null", "0", "-", "*", "ü\u202e", "a" * 5000),
    *("\x00", "../..", "os:system", "a.b:c", "macs:0.5"),
    *([], [1], [[]], {}, {"a": 1}, [None], ["x", 2]),
)  # fmt: skip


@contextlib.contextmanager
def within(seconds):
    """A case that hangs ends as a failure."""

    def late(*_):
        raise TimeoutError(f"not done in {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def try_cases(case, count):
    """What went wrong, by number: `case(rng)` asserts its answer, or raises an error of mipp's.

    `case(random.Random(f"{case.__name__} {number}"))` is the one of that number again.
    """
    wrong = {}
    for number in range(count):
        try:
            with within(SECONDS):
                case(random.Random(f"{case.__name__} {number}"))
        except MippError as error:
            text = str(error)
            if INTERNAL.search(text) or not any(word in text for word in HELPFUL):
                wrong[number] = f"{type(error).__name__}: {text}"
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            wrong[number] = "".join(traceback.format_exception(error)[-3:])
    return wrong


def spoilt_bytes(rng, content):
    """Some bytes changed, cut off, put in or taken out."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(content) + 1)
        kind = rng.choice(("flip", "cut", "insert", "remove", "zero", "repeat"))
        if kind == "flip" and at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del content[at:]
        elif kind == "insert":
            content[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == "remove":
            del content[at : at + rng.randrange(1, 9)]
        elif kind == "zero":
            content[at : at + 8] = bytes(len(content[at : at + 8]))
        else:
            content[at:at] = content[at : at + 64]
    return bytes(content)


def spoilt_value(rng, value):
    """A JSON value with one part put in another's place, taken out or made odd."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        kind = rng.random()
        if kind < 0.1:
            return {name: part for name, part in value.items() if name != key}
        if kind < 0.2:
            return {**value, rng.choice(("", "x", key.upper(), "__class__")): value[key]}
        return {**value, key: spoilt_value(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        part = rng.choice(([], [value[at], value[at]], [spoilt_value(rng, value[at])]))
        return [*value[:at], *part, *value[at + 1 :]]
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.5:
        return value + rng.choice((-1, 1, 1000))
    return rng.choice(ODD)
