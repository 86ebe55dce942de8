"""The command `serve` as a process of its own, asked over HTTP and in a real browser."""

import asyncio
import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from benchmarks.cluster import free_ports
from stages.acquisition.portraits import draw_background, draw_portrait
from stages.core.errors import UserError
from stages.inference.face_extraction import face_extractor
from stages.inference.models import RELEASED, open_detector, open_model
from stages.inference.predictions import ImagePredictions, as_record, outputs_of
from stages.inference.saliency import heat_of
from stages.networks.prediction import BATCH_SIZE
from stages.raw.archives import Member

for package in ("starlette", "uvicorn"):
    pytest.importorskip(package, reason=f"NOT TESTED: serve needs {package}, of the extra serve")

from starlette.requests import Request  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from stages.commands import serve  # noqa: E402
from stages.commands.serve import hosts_of  # noqa: E402
from stages.inference.web import Limits, PredictionService, create_app  # noqa: E402

TOP = Path(__file__).parents[2]
MAX_UPLOAD, TIMEOUT = 400_000, 6


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def until(done: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.05)


def answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=1).ok
    except requests.ConnectionError:
        return False


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return draw_portrait(35, 1, 2, np.random.default_rng(3), size=320)


@pytest.fixture(scope="module")
def background() -> np.ndarray:
    return draw_background(np.random.default_rng(7))


@pytest.fixture(scope="module")
def server(
    small_model: Path, mobilenet_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a server of two models; what it leaves on the disk is looked at afterwards."""
    top = tmp_path_factory.mktemp("served")
    for name in ("one", "two"):
        shutil.copytree(small_model, top / "models" / name)
    shutil.copytree(small_model.parents[1] / "data/evaluation/small", top / "data/evaluation/one")
    calibration = top / "data/evaluation/one/calibration.json"  # for outputs that are mirrored
    calibration.write_text(calibration.read_text().replace("false", "true"))
    (top / "data/pretrained").mkdir()
    (top / "data/pretrained/retinaface-mobilenet0.25.onnx").symlink_to(mobilenet_weights)
    before = sorted(top.rglob("*"))
    (temporary := tmp_path_factory.mktemp("temporary")).chmod(0o700)
    (port,) = free_ports(1)
    words = ["--port", str(port), "--max-upload", str(MAX_UPLOAD / 1e6), "--timeout", str(TIMEOUT)]
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.commands", "serve", *words],
        cwd=top,
        env=os.environ | {"PYTHONPATH": str(TOP), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serve: http"), "it did not start"
        address = f"http://127.0.0.1:{port}"
        until(lambda: answers(address))
        yield address
        assert sorted(top.rglob("*")) == before
        assert list(temporary.iterdir()) == []  # no upload was kept
    finally:
        process.terminate()
        process.wait(10)


def ask(
    server: str, path: str, data: bytes | Iterator[bytes], **query: object
) -> requests.Response:
    return requests.post(f"{server}/api/{path}", data=data, params=query, timeout=30)


def test_the_endpoint_returns_what_predict_writes(
    server: str, small_model: Path, mobilenet_weights: Path, portrait: np.ndarray
):
    data = encoded(portrait)
    # The first request opens the model, which may take longer than a request has.
    until(lambda: ask(server, "predict", data, model="models/one").ok, 60)
    model = open_model(small_model)
    extract = face_extractor(model.input_spec, open_detector(model, mobilenet_weights))
    image = extract(Member("", "upload", data))
    for name, calibrated in (("models/one", True), ("models/two", False)):
        outputs = outputs_of(model, list(image.faces), BATCH_SIZE, calibrated, calibrated)
        known = replace(model, calibration=model.calibration if calibrated else None)
        wanted = as_record(ImagePredictions(image, outputs), known)
        assert len(wanted["cautions"]) == 2 - calibrated
        found = ask(server, "predict", data, model=name).json()
        assert (found.pop("model"), found.pop("calibrated")) == (name, calibrated)
        assert found == wanted
    assert len(found["faces"]) == 1
    listed = requests.get(f"{server}/api/models", timeout=5).json()
    assert listed["models"] == ["released", "models/one", "models/two"]
    assert listed["max_upload"] == MAX_UPLOAD


def test_a_photo_without_a_face_has_no_faces(server: str, background: np.ndarray):
    found = ask(server, "predict", encoded(background)).json()
    assert (found["status"], found["faces"]) == ("no_face", [])


def test_the_heat_is_drawn_on_the_crop(server: str, portrait: np.ndarray):
    answer = ask(server, "explain", encoded(portrait), model="models/two", face=1, task="age")
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (100, 100)


@pytest.mark.parametrize(
    ("path", "query", "body", "status", "message"),
    [
        ("predict", {}, b"no image", 422, "not an image"),
        ("predict", {}, b"", 422, "not an image"),
        ("predict", {"model": "../../etc"}, b"x", 404, "etc'; there are released, models/one"),
        ("predict", {}, bytes(MAX_UPLOAD + 1), 413, "more than 400000"),
        ("predict", {}, [bytes(10**5)] * 5, 413, "more than 400000"),  # of undeclared length
        ("explain", {"face": 1, "task": "hair"}, "portrait", 400, "one of age, gender, race"),
        ("explain", {"face": 2, "task": "age"}, "portrait", 400, "face must be in 1..1"),
        ("explain", {"face": "-1", "task": "age"}, "portrait", 400, "face must be in 1..1"),
        ("explain", {"face": "9" * 5000, "task": "age"}, "portrait", 400, "face must be in 1..1"),
    ],
)
def test_invalid_requests_are_refused_with_a_reason(
    path, query, body, status, message, server, portrait
):
    data = encoded(portrait) if body == "portrait" else body
    answer = ask(server, path, iter(data) if isinstance(data, list) else data, **query)
    assert answer.status_code == status
    assert message in answer.json()["error"]


def test_a_file_of_a_form_is_predicted_as_the_bytes_alone(server: str, portrait: np.ndarray):
    data = encoded(portrait)
    wanted = ask(server, "predict", data, model="models/one").json()
    form = {"note": (None, "a field before the file"), "file": ("photo.png", data, "image/png")}
    answer = requests.post(f"{server}/api/predict?model=models/one", files=form, timeout=30)
    assert answer.json() == wanted
    curl = ["curl", "-sF", "file=@-;filename=photo.png", f"{server}/api/predict?model=models/one"]
    if shutil.which("curl"):
        assert json.loads(subprocess.run(curl, input=data, capture_output=True).stdout) == wanted
    without = requests.post(f"{server}/api/predict", files={"note": (None, "no")}, timeout=30)
    assert (without.status_code, "has no file" in without.json()["error"]) == (400, True)
    for boundary in ("", "; boundary=" + "x" * 5000):
        broken = {"Content-Type": f"multipart/form-data{boundary}"}
        bad = requests.post(f"{server}/api/predict", data=b"x", headers=broken, timeout=30)
        assert (bad.status_code, "not a form" in bad.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "predict", 405, "POST"),
        ("DELETE", "explain", 405, "POST"),
        ("POST", "models", 405, "GET"),
        ("OPTIONS", "predict", 405, "POST"),
        ("GET", "nothing", 404, None),
    ],
)
def test_a_wrong_method_is_told_the_right_one(
    method: str, path: str, status: int, allowed: str | None, server: str
):
    answer = requests.request(method, f"{server}/api/{path}", timeout=5)
    assert (answer.status_code, answer.headers.get("Allow")) == (status, allowed)
    assert path in answer.json()["error"]


def test_the_models_that_have_a_card_show_it(server: str):
    listed = requests.get(f"{server}/api/models", timeout=5).json()
    assert listed["cards"] == ["released"]
    card = requests.get(f"{server}/api/card", params={"model": "released"}, timeout=5)
    assert "## " in card.text
    for name in ("models/one", "one"):
        missing = requests.get(f"{server}/api/card", params={"model": name}, timeout=5)
        assert (missing.status_code, "dvc repro report" in missing.json()["error"]) == (404, True)


def test_a_port_that_is_taken_is_one_line(server: str):
    port = server.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "stages.commands", "serve", "--port", port]
    ran = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=60)
    said = f"error: cannot listen at 127.0.0.1, port {port}: Address already in use\n"
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", said)


def test_a_host_of_several_addresses_has_one_free_port(monkeypatch: pytest.MonkeyPatch):
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 0))
        for address in ("127.0.0.1", "127.0.0.2")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with contextlib.ExitStack() as stack:
        names = [stack.enter_context(each).getsockname() for each in serve._listen("localhost", 0)]
    assert names == [("127.0.0.1", names[0][1]), ("127.0.0.2", names[0][1])]


def test_a_model_that_is_not_there_is_told_before_the_start():
    assert serve._models(["released"]) == [RELEASED]
    with pytest.raises(UserError, match=r"models/mtl-cnm: no model; .*available: .*released"):
        serve._models(["released", "mtl-cnm"])


def test_an_upload_that_does_not_end_is_ended(server: str):
    host, port = server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT + 10) as slow:
        head = f"POST /api/predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\nabc"
        slow.sendall(head.encode())
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")


def test_requests_that_only_send_count_among_those_that_wait():
    limits = Limits(upload=1000, pixels=1000, seconds=0.5, waiting=2, threads=1)
    service = PredictionService([Path("a")], "cpu", limits)
    asked: list[int] = []

    def slow(number: int) -> Request:
        async def receive() -> dict[str, object]:
            asked.append(number)
            await asyncio.sleep(5)
            raise AssertionError("the time is over before")

        return Request({"type": "http", "method": "POST", "headers": []}, receive)

    async def send_all() -> list[object]:
        return await asyncio.gather(
            *(service.body(slow(i)) for i in range(4)), return_exceptions=True
        )

    found = asyncio.run(send_all())
    assert [error.status_code for error in found] == [408, 408, 503, 503]
    assert asked == [0, 1], "the others' bodies were not read"
    assert service.receiving == 0


def test_only_this_machine_is_an_address_of_it(server: str):
    for host in ("elsewhere.example", "127.0.0.1.elsewhere.example", "127.0.0.1:x", "["):
        answer = requests.get(server, headers={"Host": host}, timeout=5)
        assert (answer.status_code, "must be one of 127" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("given", "addresses", "host", "status"),
    [
        ("127.0.0.2", ["127.0.0.2"], "127.0.0.2:8000", 200),
        ("127.0.0.2", ["127.0.0.2"], "elsewhere.example", 400),
        ("127.2", ["127.0.0.2"], "127.0.0.2", 200),  # what a browser makes of it
        ("127.2", ["127.0.0.2"], "elsewhere.example", 400),
        ("::1", ["::1"], "[::1]:8000", 200),
        ("::1", ["::1"], "elsewhere.example", 400),
        ("::ffff:127.0.0.1", ["::ffff:127.0.0.1"], "elsewhere.example", 400),
        ("LocalHost.", ["127.0.0.1", "::1"], "localhost.:8000", 200),
        ("LocalHost.", ["127.0.0.1", "::1"], "elsewhere.example", 400),
        ("mine", ["127.0.1.1", "192.0.2.1"], "elsewhere.example", 200),
        ("192.0.2.1", ["192.0.2.1"], "elsewhere.example", 200),
    ],
)
def test_addresses_of_this_machine_take_no_other_name(given, addresses, host: str, status: int):
    service = PredictionService([Path("a")], "cpu", Limits(1, 1, 1, 1, 1))
    client = TestClient(create_app(service, hosts_of(given, addresses)))
    assert client.get("/", headers={"Host": host}).status_code == status


# --- one client among others -------------------------------------------------------------

HEAD = b"GET /api/models HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def connected(server: str, address: str = "127.0.0.1") -> socket.socket:
    """A connection to a server from an address of this machine."""
    host, port = server.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), 10, (address, 0))


def answer_of(connection: socket.socket) -> bytes:
    """All that a server sends until it closes; nothing if it resets."""
    parts = []
    with connection, contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def are_closed(connections: list[socket.socket]) -> bool:
    """Whether the server has closed all these connections; what it sent is thrown away."""
    for connection in connections:
        try:
            while connection.recv(65536, socket.MSG_DONTWAIT):
                pass
        except BlockingIOError:
            return False
        except ConnectionError:
            pass
    return True


def test_a_thousand_connections_of_one_address_keep_no_other_from_an_answer(server: str):
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connected(server)) for _ in range(1000)]
        begin = time.monotonic()
        ask = HEAD + b"Connection: close\r\n\r\n"
        (other := stack.enter_context(connected(server, "127.0.0.2"))).sendall(ask)
        assert answer_of(other).startswith(b"HTTP/1.1 200 ")
        (same := stack.enter_context(connected(server))).sendall(ask)
        assert answer_of(same)[:12] in (b"HTTP/1.1 503", b"")  # b"": reset, for it had sent
        assert b"too many connections" in answer_of(held.pop())
        endless = iter(HEAD + b"X: " + b"x" * 1000)
        # Every second a byte, which does not prolong the time.
        while not are_closed(held):
            byte = bytes([next(endless)])
            for connection in held:
                with contextlib.suppress(OSError):
                    connection.sendall(byte)
            time.sleep(1)
            assert time.monotonic() - begin < TIMEOUT + 5
    assert requests.get(f"{server}/api/models", timeout=5).ok


@pytest.fixture
def small_server() -> Iterator[str]:
    """A server of 4 connections an address, half a second for headers and one for a request."""
    import uvicorn

    from stages.inference.connections import limited_protocol

    async def app(scope: dict, _: object, send: Callable) -> None:
        if scope["type"] == "http":
            size = int(scope["path"].removeprefix("/"))
            await send({"type": "http.response.start", "status": 200})
            for _ in range(size):
                await send({"type": "http.response.body", "body": bytes(10**6), "more_body": True})
            await send({"type": "http.response.body"})

    (port,) = free_ports(1)
    limited = limited_protocol(connections=4, everyone=6, headers=0.5, request=1)
    config = uvicorn.Config(app, port=port, http=limited, log_level="error", lifespan="off")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    until(lambda: running.started)
    yield f"http://127.0.0.1:{port}"
    running.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /0 HTTP/1.1\r\nHost: x\r\n\r\n",  # and no other request
        b"POST /0 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",  # whose body does not come
        b"GET /90 HTTP/1.1\r\nHost: x\r\n\r\n",  # whose answer is not read
    ],
    ids=["nothing", "one request", "no body", "an answer that is not read"],
)
def test_a_connection_on_which_nothing_moves_ends(sent: bytes, small_server: str):
    begin = time.monotonic()
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connected(small_server)) for _ in range(4)]
        for connection in held:
            connection.sendall(sent)
        assert not is_answered(small_server)  # the fifth
        until(lambda: is_answered(small_server), 5)
        assert time.monotonic() - begin < 3


@pytest.mark.parametrize(
    "sent", [b"hello\r\n\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n"]
)
def test_what_is_no_http_is_refused_in_json(sent: bytes, server: str):
    (connection := connected(server)).sendall(sent)
    head, body = answer_of(connection).split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"Content-Type: application/json" in head
    assert json.loads(body) == {"error": "Invalid HTTP request received."}


def test_connections_of_all_addresses_together_are_limited(small_server: str):
    with contextlib.ExitStack() as stack:
        for number in range(6):
            stack.enter_context(connected(small_server, f"127.0.0.{2 + number // 2}"))
        answer = answer_of(connected(small_server))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert json.loads(answer.splitlines()[-1]) == {"error": "too many connections; try again"}


def is_answered(server: str) -> bool:
    try:
        return requests.get(f"{server}/1", timeout=5).ok
    except requests.ConnectionError:
        return False


def test_a_client_that_keeps_asking_is_not_cut_off(small_server: str):
    with requests.Session() as session:
        for _ in range(6):
            assert len(session.get(f"{small_server}/3", timeout=5).content) == 3 * 10**6
            time.sleep(0.3)


def test_an_ipv6_client_is_its_network():
    from stages.inference.connections import _holder

    assert _holder("2001:db8::1") == _holder("2001:db8::ffff:2") != _holder("2001:db8:0:1::1")
    assert _holder("fe80::1%lo") == _holder("fe80::2")
    assert _holder("127.0.0.1") != _holder("127.0.0.2")


# --- the page ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def open_page(
    server: str, tmp_path_factory: pytest.TempPathFactory, portrait: np.ndarray
) -> Iterator[Callable]:
    """Open the page in Chromium, whose camera shows the portrait; nothing may go wrong in it."""
    reason = "NOT TESTED in a browser: "
    playwright = pytest.importorskip("playwright.sync_api", reason=f"{reason}no playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip(f"{reason}no chromium")
    film = tmp_path_factory.mktemp("camera") / "portrait.mjpeg"
    still = np.pad(portrait, ((80, 80), (160, 160), (0, 0)), "edge")  # 640x480
    film.write_bytes(encoded(still, "JPEG") * 5)
    flags = [
        *("--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
        f"--use-file-for-fake-video-capture={film}",
    ]
    faults, asked = [], []
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=flags)
        context = browser.new_context(permissions=["camera"])
        context.on("request", lambda request: asked.append(request.url))
        context.on("weberror", lambda error: faults.append(str(error.error)))

        def opened():
            page = context.new_page()
            page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
            page.goto(server)
            page.locator("#status", has_text="Ready").wait_for()
            return page

        yield opened
        browser.close()
    assert faults == []
    assert asked
    assert [url for url in asked if not url.startswith((f"{server}/", "blob:"))] == []


def test_a_portrait_is_boxed_named_and_explained(
    open_page: Callable, portrait: np.ndarray, tmp_path
):
    (tmp_path / "portrait.png").write_bytes(encoded(portrait))
    page = open_page()
    page.set_input_files("#file", tmp_path / "portrait.png")
    page.locator("#status", has_text="1 face; calibrated probabilities").wait_for()
    assert page.locator("#faces .verdict .class").count() == 3
    page.locator("#faces summary").click()
    assert page.locator("#faces caption").count() == 3
    assert page.locator("#faces table meter").count() == 12
    heights = page.locator("#faces tr").evaluate_all("rows => rows.map(row => row.offsetHeight)")
    assert max(heights) < 1.5 * min(heights)  # no figure is broken over two lines
    yellow = page.evaluate(
        """() => { const c = document.getElementById("photo");
        const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
        let n = 0;
        for (let i = 0; i < d.length; i += 4)
          if (d[i] > 245 && Math.abs(d[i + 1] - 214) < 8 && d[i + 2] < 30) n++;
        return [c.width, c.height, n]; }"""
    )
    assert yellow[:2] == [320, 320]
    assert yellow[2] > 800  # the box and its number
    box, card = page.locator("#boxes button"), page.locator("#faces > li")
    box.hover()
    assert card.evaluate("card => card.classList.contains('lit')")
    card.get_by_role("button").focus()
    assert box.evaluate("box => box.classList.contains('lit')")
    page.get_by_role("button", name="Where did it look at face 1?").click()
    images = page.locator("#faces figure img")
    until(lambda: images.count() == 3)
    until(lambda: images.evaluate_all("all => all.every(image => image.naturalWidth == 100)"))
    with page.expect_download() as found:
        page.get_by_role("button", name="JSON").click()
    assert len(json.loads(Path(found.value.path()).read_text())["faces"]) == 1
    page.select_option("#model", "models/two")
    page.locator("#status", has_text="1 face; probabilities, not calibrated").wait_for()
    page.locator("#caution", has_text="drawn portraits").wait_for()
    assert page.locator("#faces > li").count() == 1
    page.close()


def test_the_page_reports_a_photo_without_a_face_and_an_invalid_file(
    open_page: Callable, background, tmp_path
):
    (tmp_path / "background.png").write_bytes(encoded(background))
    page = open_page()
    page.set_input_files("#file", tmp_path / "background.png")
    page.locator("#status", has_text="No face found").wait_for()
    assert page.locator("#faces > li").count() == 0
    (tmp_path / "large.png").write_bytes(bytes(MAX_UPLOAD + 1))
    page.set_input_files("#file", tmp_path / "large.png")
    page.locator("#status.error", has_text="more than 0.4 MB").wait_for()
    page.close()


def test_a_drawn_example_is_shown_and_cleared(open_page: Callable):
    page = open_page()
    assert page.locator("#card").get_attribute("href") == "api/card?model=released"
    page.get_by_role("button", name="three faces").click()
    page.locator("#status", has_text="3 faces; calibrated").wait_for()
    assert page.locator("#boxes button").count() == page.locator("#faces > li").count() == 3
    page.get_by_role("button", name="Clear").click()
    assert page.locator("#faces > li").count() == 0
    assert not page.locator("#frame").is_visible()
    page.close()


def test_the_photo_stays_in_view_beside_every_card_on_a_telephone(open_page: Callable):
    page = open_page()
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("button", name="three faces").click()
    page.locator("#faces > li").nth(2).wait_for()
    page.mouse.move(200, 600)
    page.mouse.wheel(0, 2000)
    page.wait_for_function("scrollY > 100")
    box = page.locator("#frame").bounding_box()
    assert box["y"] == 0
    assert box["height"] < 844 / 2


def test_the_camera_takes_a_photo(open_page: Callable):
    page = open_page()
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("button", name="Take the photo").click()
    page.locator("#status", has_text="1 face").wait_for()
    assert not page.locator("#video").is_visible()
    page.close()


# --- where it looked ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["keras", "onnx"])
def test_the_heat_lies_where_the_class_comes_from(kind: str, tmp_path: Path):
    """A network that tells a class by the brightness of its input, and a crop lit in a corner."""
    import keras
    from keras import layers

    images = keras.Input((96, 96, 3), dtype="uint8", name="image")
    maps = layers.Conv2D(4, 9, 4, padding="same", activation="relu", name="maps")(
        layers.Rescaling(1 / 255)(images)
    )
    pooled = layers.GlobalAveragePooling2D(name="pooled")(maps)
    outputs = {"gender": layers.Dense(2, "softmax", name="gender")(pooled)}
    network = keras.Model(images, outputs)
    network.get_layer("maps").set_weights([np.full((9, 9, 3, 4), 0.01), np.zeros(4)])
    network.get_layer("gender").set_weights([np.array([[-1.0, 1.0]] * 4), np.zeros(2)])
    crop = np.zeros((96, 96, 3), np.uint8)
    crop[8:32, 56:88] = 255
    if kind == "onnx":
        pytest.importorskip("tf2onnx", reason="NOT TESTED: occlusion needs tf2onnx")
        from stages.inference.exports import write_onnx
        from stages.inference.onnx_network import OnnxNetwork

        write_onnx(network, tmp_path / "n.onnx", {})
        network = OnnxNetwork(tmp_path / "n.onnx")
    heat = heat_of(network, crop, "gender", 1)
    assert heat.shape == (96, 96)
    assert (heat.min(), heat.max()) == (0, 1)
    assert heat[8:32, 56:88].mean() > 5 * heat[48:].mean()
    assert not heat_of(network, np.zeros_like(crop), "gender", 0).any()  # nothing spoke for it
