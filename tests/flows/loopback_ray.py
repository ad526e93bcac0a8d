"""A Ray cluster of two nodes on loopback addresses, whose processes can be killed."""

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time

import psutil

from tests.smallest_run import SMALLEST
from tests.system.processes import ROOT, free_port

CPUS = 2
TINY = (
    *SMALLEST,
    "model.name=lenet5",
    "data.size=16",
    "finetune.epochs=0",
    "evaluate.export=[]",
    "tracking.uri=null",
)


class Cluster:
    """A head and one more node, each a `ray start --block` with all its processes below it."""

    def __init__(self, folder):
        self.folder = folder
        self.sockets = tempfile.TemporaryDirectory(prefix="ray")  # whose names have a short limit
        self.address = f"127.0.0.2:{free_port()}"
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            # so that a death is noticed in seconds, not in half a minute
            "RAY_worker_niceness": "0",  # else whatever else runs here starves them
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_failure_threshold": "3",
        }
        port = self.address.partition(":")[2]
        self.head = self._start(
            "127.0.0.2", "--head", f"--port={port}", "--include-dashboard=false"
        )
        self.other = self._start("127.0.0.3", f"--address={self.address}")

    def _start(self, ip, *options):
        command = [
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--block",
            f"--num-cpus={CPUS}",
            f"--node-ip-address={ip}",
            "--object-store-memory=100000000",
            *options,
        ]
        if "--head" in options:
            command.append(f"--temp-dir={self.sockets.name}")
        with (self.folder / f"start-{ip}.txt").open("w") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
            )
        self._wait_for(ip, process)
        return process

    def _wait_for(self, ip, process):
        text = self.folder / f"start-{ip}.txt"
        for _ in range(240):
            if "Ray runtime started" in text.read_text():
                return
            assert process.poll() is None, text.read_text()
            time.sleep(0.5)
        raise AssertionError(text.read_text())

    def workers(self, node, task):
        """Worker processes of a node that run a task of that name now."""
        found = []
        for process in psutil.Process(node.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # ended since it was listed
                if process.cmdline()[:1] == [f"ray::{task}"]:
                    found.append(process)
        return found

    def kill(self, node):
        """End a whole node at once, as a machine that loses power."""
        whole = [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]
        for process in whole:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(whole, timeout=30)
        node.wait()

    def stop(self):
        for node in (self.other, self.head):
            if node.poll() is None:
                self.kill(node)
        self.sockets.cleanup()


class FlowProcess:
    """`python -m MODULE ARGUMENTS` on a cluster, as long as the block."""

    def __init__(self, cluster, folder, module, *arguments, start_in=ROOT):
        self.cluster, self.log = cluster, folder / "flow.txt"
        places = ["compute.runner=ray", f"compute.address={cluster.address}"]
        environment = {
            **os.environ,
            **cluster.environment,
            "OMP_NUM_THREADS": "1",  # as in this process
            "PREFECT_HOME": str(folder / "prefect"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", str(ROOT))]),
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        }
        sets = [word for place in places for word in ("--set", place)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments, *sets],
                cwd=start_in,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def look(self):
        """Whether it still runs."""
        return self.process.poll() is None

    def until(self, happened):
        for _ in range(6000):
            if happened():
                return
            assert self.look(), self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def finish(self):
        while self.look():
            time.sleep(0.1)
        assert self.process.returncode == 0, self.log.read_text()


class Pipeline(FlowProcess):
    """`python -m flows.pipeline` over a work directory; knows who has worked on which part."""

    def __init__(self, cluster, workdir, overrides, start_in=ROOT):
        self.workdir, self.attempts = workdir, {}
        sets = [word for override in overrides for word in ("--set", override)]
        given = ("flows.pipeline", "--workdir", str(workdir), *sets)
        super().__init__(cluster, workdir.parent, *given, start_in=start_in)

    def look(self):
        """Notes who works on which part; the folder goes when all are done."""
        for file in self.workdir.glob(".*.parts-*/*.attempts"):
            try:
                lines = file.read_text().splitlines()
            except FileNotFoundError:
                continue
            self.attempts[file.stem] = lines
        return super().look()

    def pids(self):
        return {int(line.split()[1]) for lines in self.attempts.values() for line in lines}
