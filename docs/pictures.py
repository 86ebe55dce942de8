"""docs/pictures anew, from the demo: `python docs/pictures.py` after `make report`.

Needs Chromium: `playwright install chromium`, or its path in the environment variable CHROMIUM.
"""

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

TOP = Path(__file__).parents[1]
PICTURES = TOP / "docs/pictures"
FACES = TOP / "stages/inference/page/examples/three.jpg"
WIDE, PHONE = 1280, 390  # pixels
COLOURS = 128  # of a picture's palette, which halves its file
COMMAND = [sys.executable, "-m", "stages.commands"]


def main() -> None:
    """Take all pictures."""
    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        shoot_page(browser)
        report = (TOP / "report/index.html").as_uri()
        for name, width, height in (("report", WIDE, 1150), ("report-phone", PHONE, 1800)):
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(report)
            page.wait_for_timeout(2000)  # charts are drawn when they come into view
            save(page.screenshot(), name)
    with tempfile.TemporaryDirectory() as folder:
        command = [*COMMAND, "predict", FACES, "--format", "pictures", "--output", folder]
        subprocess.run(command, cwd=TOP, check=True)
        (drawn,) = Path(folder).glob("*.jpg")
        with Image.open(drawn) as picture:
            keep(picture, "predicted")


def shoot_page(browser: Browser) -> None:
    """The page of `serve` with three faces, on a wide screen and on a telephone."""
    command = [*COMMAND, "serve", "released", "--port", "0"]
    with subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[1].rstrip(",")
        try:
            for name, width, height in (("serve", WIDE, 900), ("serve-phone", PHONE, 1000)):
                page = browser.new_page(viewport={"width": width, "height": height})
                page.goto(address)
                page.set_input_files("#file", FACES)
                page.wait_for_selector("#faces li")
                save(page.screenshot(), name)
        finally:
            server.terminate()


def save(data: bytes, name: str) -> None:
    """Keep a screenshot."""
    with Image.open(io.BytesIO(data)) as picture:
        keep(picture, name)


def keep(picture: Image.Image, name: str) -> None:
    """Store a picture with few colours."""
    few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(PICTURES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
