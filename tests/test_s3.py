"""A whole run in a bucket of an S3 server on loopback, and an upload that is killed.

Whatever opens an address is a process of its own, as on machines of their own.
"""

import os
import signal
import subprocess
import sys

import pytest

from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.disk.workdir import read_manifest
from mipp.stages import run_all
from tests.s3_server import KNOWN, needs_s3, s3_server

pytestmark = [pytest.mark.slow, needs_s3]
SAME = ("train", "extract", "estimate", "choose", "prune", "finetune")  # evaluate measures time
SMALL = [
    "train.epochs=2",
    "finetune.epochs=1",
    "data.calibration=256",
    "extract.rows=1024",
    "evaluate.latency_repeats=3",
    "evaluate.export=[]",
    "compute.device=cpu",
]
FETCH = """
import sys
from mipp.stages import STAGES
from mipp.disk.storage import Workdir
workdir = Workdir.open(sys.argv[1])
for stage in STAGES:
    workdir.stage(stage)
print(workdir.folder)
"""
MIRROR = """
import sys
from mipp.disk.storage import Workdir
print(Workdir.open(sys.argv[1]).folder)
"""
SEND = """
import sys
from mipp.disk.storage import Workdir
Workdir.open(sys.argv[1]).keep("train")
"""
MAKE = """
import sys, boto3
boto3.client("s3").create_bucket(Bucket=sys.argv[1])
"""
LIST = """
import sys, boto3
found = boto3.client("s3").list_objects_v2(Bucket=sys.argv[1], Prefix=sys.argv[2])
print("\\n".join(item["Key"] for item in found.get("Contents", ())))
"""


class Machine:
    """Runs programs that see one cache and one S3 server."""

    def __init__(self, cache, endpoint):
        self.environment = {
            **os.environ,
            "MIPP_CACHE": str(cache),
            **KNOWN,
            "AWS_ENDPOINT_URL": endpoint,
            "OMP_NUM_THREADS": "1",  # as in this process
        }

    def start(self, *arguments):
        return subprocess.Popen(
            [sys.executable, *arguments], env=self.environment, stdout=-1, stderr=-1, text=True
        )

    def run(self, *arguments):
        process = self.start(*arguments)
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        return output.strip()


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("moto") / "log.txt") as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def machines(tmp_path, endpoint):
    return Machine(tmp_path / "here", endpoint), Machine(tmp_path / "elsewhere", endpoint)


def outputs(workdir):
    return {stage: dict(read_manifest(workdir / stage).outputs) for stage in SAME}


def test_digits_in_a_bucket_end_as_in_a_folder(machines, tmp_path):
    here, elsewhere = machines
    here.run("-c", MAKE, "digits")
    sets = [word for override in SMALL for word in ("--set", override)]
    here.run("-m", "mipp", "run", "--workdir", "s3://digits/run", *sets)
    run_all(Workdir(tmp_path / "folder"), load_params(overrides=SMALL))
    there = tmp_path / elsewhere.run("-c", FETCH, "s3://digits/run")
    assert outputs(there) == outputs(tmp_path / "folder")
    selection = "choose/selection.json"
    assert (there / selection).read_bytes() == (tmp_path / "folder" / selection).read_bytes()
    assert (there / "report/report.html").stat().st_size > 10_000

    # from elsewhere a test of significance reads the rows of the store where they are
    budget = ["--set", "choose.budget=confidence:95"]
    elsewhere.run("-m", "mipp", "choose", "--workdir", "s3://digits/run", *budget)
    chunks = [path.name for path in (there / "extract/activations.zarr").iterdir()]
    assert chunks == ["zarr.json"]
    assert read_manifest(there / "choose").params["choose"]["budget"] == "confidence:95"


def test_upload_that_is_killed_leaves_nothing_that_counts(machines):
    here, elsewhere = machines
    here.run("-c", MAKE, "killed")
    train = ["-m", "mipp", "train", "--workdir", "s3://killed/run", "--set", "train.epochs=0"]
    here.run(*train)
    mirror = here.run("-c", MIRROR, "s3://killed/half")
    done = here.run("-c", MIRROR, "s3://killed/run")
    os.mkdir(f"{mirror}/train")
    for file in os.listdir(f"{done}/train"):
        os.link(f"{done}/train/{file}", f"{mirror}/train/{file}")
    for index in range(2000):  # so that the upload takes its time
        with open(f"{mirror}/train/z{index}.bin", "wb") as more:
            more.write(b"z" * 1000)
    sending = here.start("-c", SEND, "s3://killed/half")
    while not here.run("-c", LIST, "killed", "half/train"):
        assert sending.poll() is None, sending.communicate()[1]
    sending.kill()
    sending.communicate()
    assert sending.returncode == -signal.SIGKILL  # it was still sending
    arrived = here.run("-c", LIST, "killed", "half/train").splitlines()
    assert arrived
    assert "half/train/manifest.json" not in arrived
    there = elsewhere.run("-c", FETCH, "s3://killed/half")
    assert not os.path.exists(f"{there}/train")
