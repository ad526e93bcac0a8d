"""Images that were replaced in place: what was made of the old ones is made anew."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.stages import STAGES, run_all
from mipp.stages.stage import needs_run
from tests.smallest_run import SMALLEST

pytestmark = pytest.mark.usefixtures("few_figures")
OF_IMAGES = [name for name, stage in STAGES.items() if "data" in stage.params]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MIPP_CACHE", str(tmp_path / "cache"))


def write_images(root, part, seed):
    """Grey squares, dark for label 0 and bright for label 1; always as many bytes."""
    generator = np.random.default_rng(seed)
    labels = np.arange(160) % 2
    rows = []
    for label in labels:
        pixels = generator.integers(0, 100, (8, 8), dtype=np.uint8) + 120 * label
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "BMP")
        rows.append({"bytes": buffer.getvalue(), "path": ""})
    image = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = pa.table({"image": image, "label": pa.array(labels, pa.int64())})
    pq.write_table(table, root / f"{part}.parquet", compression="none", use_dictionary=False)


@pytest.fixture
def images(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    write_images(root, "train", 0)
    write_images(root, "test", 1)
    return root


@pytest.fixture
def params(images):
    return load_params(overrides=[*SMALLEST, "data.name=parquet", f"data.root={images}"])


@pytest.mark.parametrize("part", ["train", pytest.param("test", marks=pytest.mark.slow)])
def test_stages_that_read_images_run_anew(images, params, part, tmp_path):
    workdir = Workdir(tmp_path / "work")
    run_all(workdir, params)
    assert not any(needs_run(stage, workdir, params) for stage in STAGES.values())
    size = (images / f"{part}.parquet").stat().st_size
    write_images(images, part, 2)
    assert (images / f"{part}.parquet").stat().st_size == size
    assert {name for name, s in STAGES.items() if needs_run(s, workdir, params)} == {*OF_IMAGES}
    run_all(workdir, params)
    assert not any(needs_run(stage, workdir, params) for stage in STAGES.values())
