"""A web page and an HTTP endpoint for the trained models: `utkface-mtl serve`.

Drop a photo, or use the camera, and see each face with its age group, gender and race, and where
the model looked. Everything stays on this machine, and no photo is kept.
"""

import argparse
import contextlib
import importlib.util
import ipaddress
import math
import os
import socket
from collections.abc import Iterable
from pathlib import Path

from stages.core.errors import UserError
from stages.core.paths import NETWORK_FILE
from stages.inference.models import find_model, find_models, no_model

LOOPBACK = ("127.0.0.1", "localhost")
ALL_CONNECTIONS = 500  # of all clients together, unless one alone may have as many
HEADERS_SECONDS = 10.0  # to send the headers of a request


def hosts_of(given: str, addresses: Iterable[str]) -> tuple[str, ...]:
    """The Host headers that are accepted at `addresses`, those of the host that was given.

    Any unless all are this machine's own: there a page elsewhere that calls its own name this
    machine's address (DNS rebinding) is refused.
    """
    found = [ipaddress.ip_address(address) for address in addresses]
    if not all((getattr(ip, "ipv4_mapped", None) or ip).is_loopback for ip in found):
        return ("*",)
    shown = [f"[{ip}]" if ip.version == 6 else str(ip) for ip in found]
    return tuple(dict.fromkeys((*LOOPBACK, *shown, f"[{given}]" if ":" in given else given)))


def main() -> None:
    """Serve until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("models", nargs="*", help="runs or files; default: the released model and all found")
    add("--host", default=LOOPBACK[0], help="address to listen at; %(default)s: this machine only")
    add("--port", type=int, default=8000, help="%(default)s")
    add("--max-upload", type=float, default=10, help="largest photo, 10^6 bytes; %(default)s")
    add("--max-pixels", type=float, default=50, help="largest photo, 10^6 pixels; %(default)s")
    add("--timeout", type=float, default=30, help="seconds of an upload, and of its work; 30")
    add("--threads", type=int, default=os.cpu_count() or 1, help="photos at work; %(default)s")
    text = "connections of one address (IPv6: one /64) at once; %(default)s. Behind a proxy all"
    add("--connections", type=int, default=16, help=f"{text} clients have its address: set more")
    add("--device", choices=("auto", "cpu", "gpu"), default="auto", help="%(default)s")
    arguments = parser.parse_args()
    limited = (arguments.max_upload, arguments.max_pixels, arguments.timeout)
    if not all(math.isfinite(number) and number > 0 for number in limited):
        parser.error("--max-upload, --max-pixels and --timeout must be above 0, and finite")
    if min(arguments.threads, arguments.connections) < 1:
        parser.error("--threads and --connections must be at least 1")
    if not 0 <= arguments.port <= 65535:
        parser.error("--port must be in 0..65535")
    import uvicorn  # of the extra serve

    from stages.inference.connections import limited_protocol
    from stages.inference.web import Limits, PredictionService, create_app

    listening = _listen(arguments.host, arguments.port)
    paths = _models(arguments.models)
    limits = Limits(
        upload=int(arguments.max_upload * 10**6),
        pixels=int(arguments.max_pixels * 10**6),
        seconds=arguments.timeout,
        waiting=32 * arguments.threads,
        threads=arguments.threads,
    )
    service = PredictionService(paths, arguments.device, limits)
    # Opened now: an error shows at once, and the first visitor waits less.
    service.open(next(iter(service.paths)))
    host, port = arguments.host, listening[0].getsockname()[1]
    app = create_app(service, hosts_of(host, (each.getsockname()[0] for each in listening)))
    shown = f"[{host}]" if ":" in host else host
    print(f"serve: http://{shown}:{port}, stop with Ctrl-C", flush=True)
    # A request is uploaded, worked on and answered, each within the time-out.
    seconds = min(HEADERS_SECONDS, limits.seconds), 3 * limits.seconds
    everyone = max(ALL_CONNECTIONS, arguments.connections)
    protocol = limited_protocol(arguments.connections, everyone, *seconds)
    config = uvicorn.Config(app, log_level="warning", http=protocol, ws="none")
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(listening)


def _models(given: list[str]) -> list[Path]:
    """The models that are named, or all that can be opened here."""
    if given:
        paths = list(map(find_model, given))
        if missing := [path for path in paths if not path.exists()]:
            raise no_model(missing[0])
        return paths
    paths = find_models()
    if importlib.util.find_spec("tensorflow") is None:
        paths = [path for path in paths if not (path / NETWORK_FILE).is_file()]
    if not paths:
        raise UserError("no model under models/ or exports/: run `dvc repro`, or name one")
    return paths


def _listen(host: str, port: int) -> list[socket.socket]:
    """Sockets of all addresses of a host; models are opened after, since that takes longer."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        addresses = dict.fromkeys((family, str(address[0])) for family, *_, address in found)
        listening: list[socket.socket] = []
        for family, address in addresses:
            listening.append(socket.create_server((address, port), family=family))
            port = listening[0].getsockname()[1]  # port 0: the same free one for all
        return listening
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # without the address again
        raise UserError(f"cannot listen at {host}, port {port}: {reason}") from None
