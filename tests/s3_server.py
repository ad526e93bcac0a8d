"""An S3 server on loopback, and a proxy before it that cuts connections on their way."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from importlib.util import find_spec

import pytest

KNOWN = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}
needs_s3 = pytest.mark.skipif(
    find_spec("moto") is None or find_spec("s3fs") is None,
    reason="the S3 server needs moto and s3fs: pip install -e '.[dev]'",
)


@contextlib.contextmanager
def s3_server(log):
    """The port of a server that keeps its buckets in memory."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("w") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        for _ in range(600):
            assert server.poll() is None, log.read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield port
    finally:
        server.kill()
        server.wait()


def _never(number):
    return False


class Proxy:
    """Passes on what comes, piece by piece, and cuts a connection in the midst of some."""

    def __init__(self, port):
        self.behind, self.pieces, self._cut = ("127.0.0.1", port), 0, _never
        self.passed = 0  # pieces in the last block of `cutting`
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    @contextlib.contextmanager
    def cutting(self, at, good):
        """The connection of piece number `at` is cut, or for good every one from there on."""
        self.pieces, self._cut = 0, lambda n: at is not None and (n >= at if good else n == at)
        try:
            yield
        finally:
            self.passed, self._cut = self.pieces, _never

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:  # closed
                return
            there = socket.create_connection(self.behind)
            for pair in ((here, there), (there, here)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source, sink):
        with contextlib.suppress(OSError):  # the other direction was cut, or is at its end
            while piece := source.recv(1 << 14):
                number, self.pieces = self.pieces, self.pieces + 1
                if self._cut(number):
                    sink.sendall(piece[: len(piece) // 2])
                    break
                sink.sendall(piece)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
