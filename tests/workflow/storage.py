"""An S3 server on loopback."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from processes import environment

from benchmarks.cluster import free_ports

KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_PROXY": "127.0.0.1",
}


@contextmanager
def s3_server(bucket: str) -> Iterator[str]:
    """The address of a server with a bucket; `os.environ` must have KEYS for its clients."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    nowhere = subprocess.DEVNULL
    server = subprocess.Popen(command, stdout=nowhere, stderr=nowhere, env=environment())
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                requests.put(f"{address}/{bucket}", timeout=5).raise_for_status()
                break
            except requests.ConnectionError:
                assert server.poll() is None
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait()


def reachable(address: str) -> dict[str, str]:
    """The environment in which clients find the server."""
    return dict(os.environ) | KEYS | {"AWS_ENDPOINT_URL": address}
