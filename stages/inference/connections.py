"""What one client may hold of the server: how many connections, and for how long; JSON errors.

Uvicorn waits without end for headers, for a body that nobody reads, and for a client that does not
read its answer. (The read_timeout of Hypercorn begins anew with each byte.)
"""

import asyncio
import json
from collections import Counter
from ipaddress import IPv6Interface
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def _refusal(status: str, reason: str) -> bytes:
    body = json.dumps({"error": reason}).encode() + b"\n"
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def limited_protocol(
    connections: int, everyone: int, headers: float, request: float
) -> type[H11Protocol]:
    """Uvicorn's protocol with limits, for its parameter `http`, whose own refusals are JSON.

    Args:
        connections: of one client's address at once; more are refused.
        everyone: of all clients together, likewise.
        headers: seconds from the connection, or from the last answer, to the end of the headers.
        request: seconds from there to the end of the answer, at least; `headers` more at most.
    """
    held: Counter[str] = Counter()

    class LimitedProtocol(H11Protocol):
        extended: Any = None  # the request that has got its seconds

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.address = _holder(self.client[0] if self.client else "")
            self.timer = self.loop.call_later(headers, self._time_is_up)
            alone = held[self.address] >= connections
            self.refused = alone or held.total() >= everyone
            if self.refused:
                reason = f"too many connections{' from your address' * alone}; try again"
                transport.write(_refusal("503 Service Unavailable", reason))
                transport.close()
            else:
                held[self.address] += 1

        def connection_lost(self, exc: Exception | None) -> None:
            self.timer.cancel()
            if not self.refused:
                held[self.address] -= 1
                if not held[self.address]:
                    del held[self.address]
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            cycle = self.cycle
            if cycle is None or cycle.response_complete or not cycle.response_started:
                self.transport.write(_refusal("400 Bad Request", msg))
            self.transport.close()

        def on_response_complete(self) -> None:
            self.timer.cancel()
            self.timer = self.loop.call_later(headers, self._time_is_up)
            super().on_response_complete()

        def _time_is_up(self) -> None:
            answering = self.cycle is not None and not self.cycle.response_complete
            if answering and self.cycle is not self.extended:
                self.extended = self.cycle
                self.timer = self.loop.call_later(request, self._time_is_up)
            else:
                self.transport.abort()  # close() would wait until the answer is read

    return LimitedProtocol


def _holder(address: str) -> str:
    """Who holds an address: whoever has one of IPv6 has all of its /64."""
    if ":" not in address:
        return address
    return str(IPv6Interface(f"{address.partition('%')[0]}/64").network)
