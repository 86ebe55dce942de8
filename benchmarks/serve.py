"""`serve` under load: 8 clients ask 500 times, and print how long they waited, as JSON.

    python benchmarks/serve.py models/mtl-cnn

starts the server with that model on a free port of this machine, asks with drawn portraits (one in
five is a background without a face), and stops it. The exit status is 1 if any answer was wrong:
not 200, or another number of faces than the same picture had before.
"""

import argparse
import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import local

import numpy as np
import requests
from PIL import Image

from stages.acquisition.portraits import draw_background, draw_portrait

PICTURES = 20
SIZE = 400  # pixels, of a picture


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="models/<run> or an exported .onnx file")
    parser.add_argument("--clients", type=int, default=8, help="%(default)s")
    parser.add_argument("--requests", type=int, default=500, help="%(default)s")
    arguments = parser.parse_args()
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "stages.commands",
        "serve",
        arguments.model,
        "--port",
        str(port),
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        if not server.stdout.readline():
            sys.exit("the server did not start")
        address = f"http://127.0.0.1:{port}"
        wait_for(address)
        figures = measure(address, arguments.clients, arguments.requests)
    finally:
        server.terminate()
        server.wait(30)
    print(json.dumps({"model": arguments.model, "cores": os.cpu_count(), **figures}, indent=2))
    sys.exit(figures["errors"] > 0)


def measure(address: str, clients: int, number: int) -> dict[str, float]:
    """The waiting times of `number` requests of `clients` at once, in milliseconds."""
    photos = pictures()
    wanted = [ask(requests.Session(), address, photo)[1] for photo in photos]
    own = local()

    def one(turn: int) -> tuple[float, bool]:
        if not hasattr(own, "session"):
            own.session = requests.Session()
        start = time.perf_counter()
        status, faces = ask(own.session, address, photos[turn % PICTURES])
        right = (status, faces) == (200, wanted[turn % PICTURES])
        return 1000 * (time.perf_counter() - start), right

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        done = list(pool.map(one, range(number)))
    seconds = time.perf_counter() - start
    waits = np.array([wait for wait, _ in done])
    return {
        "clients": clients,
        "requests": number,
        "errors": sum(not right for _, right in done),
        "faces": sum(wanted[turn % PICTURES] for turn in range(number)),
        "requests_per_second": round(number / seconds, 1),
        **{f"p{q}_ms": round(float(np.percentile(waits, q)), 1) for q in (50, 95, 99)},
    }


def ask(session: requests.Session, address: str, photo: bytes) -> tuple[int, int]:
    """The status of an answer, and how many faces it tells of; -1: none of either."""
    try:
        answer = session.post(f"{address}/api/predict", data=photo, timeout=60)
        return answer.status_code, len(answer.json().get("faces", ()))
    except requests.RequestException:
        return -1, -1


def wait_for(address: str) -> None:
    """Wait until the server listens, ten seconds at most."""
    for _ in range(100):
        with contextlib.suppress(requests.ConnectionError):
            requests.get(address, timeout=10)
            return
        time.sleep(0.1)


def pictures() -> list[bytes]:
    """PNG files of portraits and, one in five, backgrounds."""
    generator = np.random.default_rng(1)
    files = []
    for i in range(PICTURES):
        labels = (int(generator.integers(1, 100)), i % 2, i % 5)
        pixels = (
            draw_background(generator, SIZE)
            if i % 5 == 4
            else draw_portrait(*labels, generator, size=SIZE)
        )
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        files.append(file.getvalue())
    return files


if __name__ == "__main__":
    main()
