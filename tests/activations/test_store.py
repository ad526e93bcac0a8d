"""The activation store: what was written comes back, or the store is refused."""

import json
import pickle
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp.activations import open_store, write_store
from mipp.errors import DamagedStoreError, StoreError, StoreMismatchError

PAIR = "layer1.0.conv1--layer1.0.conv2"
FINGERPRINT = {"model": "a" * 64, "calibration split": "b" * 64}


def draw_batches(seed, sizes, shapes):
    """Rows per pair, batch by batch: x (n, channels, block) and y (n, targets)."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

    return [
        {pair: (draw(n, *shape[:2]), draw(n, shape[2])) for pair, shape in shapes.items()}
        for n in sizes
    ]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "activations.zarr"


def write_small(path, sizes=(4, 4, 3), chunk=96):
    """By default a chunk holds four rows, of 24 bytes in x and 20 in y."""
    batches = draw_batches(0, sizes, {PAIR: (3, 2, 5)})
    with mock.patch("mipp.activations.store.CHUNK", chunk):
        write_store(path, batches, FINGERPRINT)
    return batches


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 9),
    batches=st.integers(1, 4),
    last=st.integers(1, 9),
    shapes=st.lists(st.tuples(*[st.integers(1, 5)] * 3), min_size=1, max_size=3),
    chunk=st.integers(1, 1000),
)
def test_rows_come_back_bit_by_bit(seed, rows, batches, last, shapes, chunk):
    sizes = [rows] * (batches - 1) + [min(last, rows)]
    written = draw_batches(seed, sizes, {f"a.{i}--b": s for i, s in enumerate(shapes)})
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch("mipp.activations.store.CHUNK", chunk),
    ):
        write_store(Path(folder) / "store.zarr", written, FINGERPRINT)
        store = open_store(Path(folder) / "store.zarr", FINGERPRINT)
        assert sorted(store.pairs) == sorted(written[0])
        for pair in store.pairs:
            read = [np.concatenate(side) for side in zip(*store.rows(pair), strict=True)]
            for side, values in enumerate(read):
                whole = torch.cat([batch[pair][side] for batch in written])
                np.testing.assert_array_equal(values, whole.numpy())
                assert values.dtype == np.float32


@pytest.mark.parametrize(("chunk", "chunks"), [(1, 11), (96, 3), (150, 2), (10**6, 1)])
def test_rows_wait_until_they_fill_a_chunk(path, chunk, chunks):
    write_small(path, chunk=chunk)
    assert len(list((path / PAIR / "x/c").rglob("*/0/0"))) == chunks
    with mock.patch("mipp.activations.store.READ", 1):
        assert len(list(open_store(path).rows(PAIR))) == chunks
    assert len(list(open_store(path).rows(PAIR))) == 1  # small chunks are read together


def test_shape_is_known_without_reading(path):
    write_small(path)
    assert open_store(path).shape(PAIR) == (11, 3, 2)


def test_fingerprint_comes_back(path):
    write_small(path)
    assert open_store(path).fingerprint == FINGERPRINT


def test_dead_layers_come_back(path):
    x, y = torch.zeros(4, 3, 2), torch.ones(4, 5)  # a ReLU layer that never fires
    write_store(path, [{PAIR: (x, y)}, {PAIR: (x + 1, y)}], FINGERPRINT)
    found = [x for x, _ in open_store(path).rows(PAIR)]
    np.testing.assert_array_equal(np.concatenate(found), torch.cat([x, x + 1]).numpy())


def test_missing_store_is_refused(path):
    with pytest.raises(StoreError, match=r"does not exist(.|\n)*run `mipp extract` first"):
        open_store(path)


def test_incomplete_store_is_refused(path):
    write_small(path)
    group = json.loads((path / "zarr.json").read_text())
    del group["attributes"]["complete"]
    (path / "zarr.json").write_text(json.dumps(group))
    with pytest.raises(StoreError, match="is incomplete"):
        open_store(path)


def test_rows_that_wait_are_bounded_over_all_arrays(path):
    with mock.patch("mipp.activations.store.HELD", 4 * 48):  # two arrays, each side of a pair
        batches = draw_batches(0, (4, 4, 3), {PAIR: (3, 2, 5), "a--b": (3, 2, 5)})
        write_store(path, batches, FINGERPRINT)
    with mock.patch("mipp.activations.store.READ", 1):
        assert [len(x) for x, _ in open_store(path).rows(PAIR)] == [2] * 5 + [1]


def test_fault_of_a_batch_leaves_no_store(path):
    def batches():
        yield from draw_batches(0, (4, 4), {PAIR: (3, 2, 5)})
        raise RuntimeError("the third batch fails")

    with pytest.raises(RuntimeError, match="third batch"):
        write_store(path, batches(), FINGERPRINT)
    assert not path.exists()


def test_fault_of_the_disk_reaches_the_caller(path):
    with (
        mock.patch("zarr.Group.create_array", side_effect=OSError("disk full")),
        pytest.raises(OSError, match="disk full"),
    ):
        write_store(path, draw_batches(0, (4,) * 9, {PAIR: (3, 2, 5)}), FINGERPRINT)
    assert not path.exists()


@pytest.mark.parametrize("side", ["x", "y"])
def test_missing_chunk_is_refused(side, path):
    write_small(path)
    chunks = sorted(file for file in (path / PAIR / side / "c").rglob("*") if file.is_file())
    chunks[1].unlink()
    with pytest.raises(StoreError, match=rf"damaged at {PAIR}/{side}(.|\n)*3 chunks, got 2"):
        list(open_store(path).rows(PAIR))


DAMAGES = {
    "zeroed": lambda content: bytes(len(content)),
    "one bit": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "its checksum": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "cut short": lambda content: content[:-5],
    "empty": lambda content: b"",
    "longer": lambda content: content + b"more",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("side", ["x", "y"])
def test_damage_to_any_chunk_is_seen(side, damage, path):
    write_small(path)
    for chunk in [file for file in (path / PAIR / side / "c").rglob("*") if file.is_file()]:
        content = chunk.read_bytes()
        chunk.write_bytes(DAMAGES[damage](content))
        with pytest.raises(DamagedStoreError, match=rf"damaged at {PAIR}(.|\n)*`mipp extract`"):
            list(open_store(path).rows(PAIR))
        chunk.write_bytes(content)
    list(open_store(path).rows(PAIR))


@pytest.mark.parametrize("part", FINGERPRINT)
def test_store_of_another_model_is_refused(part, path):
    write_small(path)
    with pytest.raises(StoreMismatchError, match=f"written for another {part}(.|\n)*cccccccccccc"):
        open_store(path, {**FINGERPRINT, part: "c" * 64})


def test_part_that_the_store_does_not_know_is_refused(path):
    write_small(path)
    with pytest.raises(StoreMismatchError, match="another sampling"):
        open_store(path, {"sampling": "64 rows"})


def test_unknown_pair_is_refused(path):
    write_small(path)
    with pytest.raises(StoreMismatchError, match=rf"no layer pair 'conv9--fc'(.|\n)*{PAIR}"):
        open_store(path).shape("conv9--fc")


def test_nothing_is_at_the_path_when_writing_fails_half_way(path):
    def broken():
        yield from draw_batches(0, (4, 4), {PAIR: (3, 2, 5)})
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_store(path, broken(), FINGERPRINT)
    assert not path.exists()


def test_nothing_is_at_the_path_while_it_is_written(path):
    def watching():
        for batch in draw_batches(0, (4, 4), {PAIR: (3, 2, 5)}):
            assert not path.exists()
            yield batch

    write_store(path, watching(), FINGERPRINT)
    assert open_store(path).shape(PAIR) == (8, 3, 2)


def test_store_without_rows_is_refused(path):
    with pytest.raises(StoreError, match=r"would be empty(.|\n)*data\.calibration"):
        write_store(path, [], FINGERPRINT)
    assert not path.exists()


def rewritten(file, change):
    """A file of JSON, changed."""
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


HUGE = 2**45
ARRAYS = {
    "a shape that nothing fills": lambda a: a.update(
        shape=[HUGE, 3, 2],
        chunk_grid={"name": "regular", "configuration": {"chunk_shape": [HUGE, 3, 2]}},
    ),
    "chunks larger than they are": lambda a: a.update(
        chunk_grid={"name": "regular", "configuration": {"chunk_shape": [HUGE, 3, 2]}}
    ),
    "a codec that grows": lambda a: a.update(
        codecs=[*a["codecs"][:1], {"name": "gzip", "configuration": {"level": 5}}]
    ),
    "a type without numbers": lambda a: a.update(data_type="string", fill_value=""),
    "doubles": lambda a: a.update(data_type="float64"),
    "a negative shape": lambda a: a.update(shape=[-4, 3, 2]),
    "words for a shape": lambda a: a.update(shape="many"),
    "no shape": lambda a: a.pop("shape"),
    "a group": lambda a: a.update(node_type="group"),
    "version 2": lambda a: a.update(zarr_format=2),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_array_of_another_kind_is_refused_before_room_is_made(kind, path):
    write_small(path)
    rewritten(path / PAIR / "x/zarr.json", ARRAYS[kind])
    with pytest.raises(DamagedStoreError, match=r"is damaged at .*\nExpected .*, got"):
        list(open_store(path).rows(PAIR))


def test_array_of_version_2_runs_no_pickle(path):
    """Version 2 may have numcodecs' pickle among its codecs."""
    write_small(path)
    folder = path / PAIR / "x"
    (folder / "zarr.json").unlink()
    kind = {"zarr_format": 2, "shape": [1, 1, 1], "chunks": [1, 1, 1], "dtype": "|O", "order": "C"}
    pickled = {"compressor": None, "fill_value": None, "filters": [{"id": "pickle"}]}
    (folder / ".zarray").write_text(json.dumps(kind | pickled))
    (folder / "0.0.0").write_bytes(pickle.dumps([[[Trap()]]]))
    with pytest.raises(DamagedStoreError, match="array of version 3"):
        list(open_store(path).rows(PAIR))
    assert not Trap.sprung


class Trap:
    """What runs when it is unpickled."""

    sprung = False

    def __reduce__(self):
        return (Trap._spring, ())

    @staticmethod
    def _spring():
        Trap.sprung = True


ATTRIBUTES = {
    "pairs that climb": (lambda a: a.update(pairs=["../../own"]), "outside of its folder"),
    "absolute pairs": (lambda a: a.update(pairs=["/etc/own"]), "outside of its folder"),
    "pairs that are numbers": (lambda a: a.update(pairs=[1]), "outside of its folder"),
    "no pairs": (lambda a: a.pop("pairs"), "cannot be read"),
    "one word for pairs": (lambda a: a.update(pairs="fc1"), "cannot be read"),
    "no fingerprint": (lambda a: a.update(fingerprint=[]), "cannot be read"),
}


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_attributes_of_no_store_are_refused(kind, path):
    change, says = ATTRIBUTES[kind]
    write_small(path)
    rewritten(path / "zarr.json", lambda group: change(group["attributes"]))
    with pytest.raises(StoreError, match=says):
        open_store(path)


@pytest.mark.parametrize("text", ["", "[]", "null", '{"zarr_format": 3}', "{" * 4000, "\udcff"])
def test_group_that_is_none_is_refused(text, path):
    write_small(path)
    (path / "zarr.json").write_text(text, errors="surrogateescape")
    with pytest.raises(StoreError, match=r"store .* (cannot be read|does not exist|is incomplete)"):
        open_store(path)
