"""A local S3 server, for tests and benchmarks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen

from moto.server import ThreadedMotoServer

BUCKET = "sets"
VARIABLES = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """A server with an empty ``BUCKET``; gives the environment variables by which it is found."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it names every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        variables = {**VARIABLES, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
        url = variables["AWS_ENDPOINT_URL"]
        urlopen(Request(f"{url}/{BUCKET}", method="PUT")).close()
        yield variables
    finally:
        server.stop()
