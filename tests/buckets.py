"""A bucket of a real S3 server, which can be out of reach for a while."""

import contextlib
import urllib.request
from collections.abc import Iterator

from moto.server import ThreadedMotoServer

SECRET = "not-for-everybody"


class Bucket:
    """A bucket; its server keeps it while it is stopped."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", 0)
        self._server.start()
        _, self._port = self._server.get_host_and_port()
        self.shown = f"s3://studies/shared?scheme=http&endpoint_override=127.0.0.1%3A{self._port}"
        self.uri = self.shown.replace("://", f"://key:{SECRET}@")
        self._send("PUT", f"http://127.0.0.1:{self._port}/studies")

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", self._port)
        self._server.start()

    def empty(self) -> None:
        """Forget everything, but the bucket."""
        self._send("POST", f"http://127.0.0.1:{self._port}/moto-api/reset")
        self._send("PUT", f"http://127.0.0.1:{self._port}/studies")

    def _send(self, method: str, url: str) -> None:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            urllib.request.Request(url, method=method, data=b"")
        ).close()


@contextlib.contextmanager
def bucket() -> Iterator[Bucket]:
    """A bucket that goes when this does."""
    made = Bucket()
    try:
        yield made
    finally:
        with contextlib.suppress(Exception):
            made.stop()
