"""The report in a real browser, headless Chromium: what a reader sees and does."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from workspace import BLOCK5, CNN, SEARCH, SUITE

from stages import report

expect.set_options(timeout=30_000)  # ms; a busy machine draws slowly

PHONE = {"width": 390, "height": 844}
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is on the path: NOT TESTED in a browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class Reader:
    """Opens the report and notes what the browser says and asks for."""

    def __init__(self, browser: Browser, folder: Path, **options: object) -> None:
        self._context = browser.new_context(**options)  # type: ignore[arg-type]
        self.page: Page = self._context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.address = (folder / report.REPORT).as_uri()
        self.page.goto(self.address)

    def close(self) -> None:
        self._context.close()

    def chart(self, title: str) -> Locator:
        """A chart by its title, scrolled to and drawn."""
        chart = self.page.locator("figure.chart", has=self.page.get_by_text(title, exact=True))
        chart.scroll_into_view_if_needed()
        expect(chart).to_have_attribute("data-drawn", "true")
        return chart

    def draw_all(self) -> int:
        """Open all models and draw all charts, as for printing; returns how many there are."""
        self.page.evaluate("document.querySelectorAll('main details').forEach(d => d.open = true)")
        self.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        self.page.wait_for_function("!document.querySelector('figure.chart:not([data-drawn])')")
        return self.page.locator("figure.chart").count()


@pytest.fixture
def open_report(browser: Browser, reported: Path) -> Iterator[object]:
    readers = []

    def opened(**options: object) -> Reader:
        readers.append(Reader(browser, reported, **options))
        return readers[-1]

    yield opened
    for reader in readers:
        reader.close()


@pytest.fixture
def reader(open_report) -> Reader:
    return open_report(viewport={"width": 1280, "height": 900}, color_scheme="light")


def labels(chart: Locator, axis: str) -> list[str]:
    """The sorted labels of a chart's axis, `X-axis` or `Y-axis`."""
    ticks = chart.locator(f"g[aria-label^='{axis}'] .role-axis-label text")
    return sorted(ticks.all_text_contents())


def wait_until(reader: "Reader", condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        reader.page.wait_for_timeout(50)
    raise AssertionError("it did not come to that in 10 s")


def background(reader: Reader) -> str:
    return str(reader.page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_it_loads_and_draws_everything_without_a_word_or_a_request(reader: Reader):
    expect(reader.page.locator("h1")).to_be_visible()
    assert reader.draw_all() > 30
    assert reader.page.locator("figure.chart .plot svg").count() == reader.draw_all()
    assert reader.said == []
    assert [url for url in reader.asked if not url.startswith("data:")] == [reader.address]


@pytest.mark.parametrize("way", ["click", "keyboard"])
def test_a_table_sorts_by_number_both_ways(reader: Reader, way: str):
    table = reader.page.locator("table", has=reader.page.get_by_text("What the variants cost"))
    head = table.get_by_role("columnheader", name="parameters")
    button = head.get_by_role("button")

    def press() -> None:
        if way == "click":
            button.click()
        else:
            button.focus()
            reader.page.keyboard.press("Enter")

    def numbers() -> list[str]:
        return table.locator("tbody td:nth-child(2)").all_inner_texts()

    press()
    assert head.get_attribute("aria-sort") == "ascending"
    assert numbers() == ["300,000", "600,000", "900,000"]
    press()
    assert head.get_attribute("aria-sort") == "descending"
    assert numbers() == ["900,000", "600,000", "300,000"]
    seconds = table.get_by_role("columnheader", name="training, s", exact=False).first
    seconds.get_by_role("button").click()
    cells = table.locator("tbody td:nth-child(7)").all_inner_texts()
    assert cells == ["10", "11", "-"], "what is missing comes last"
    assert head.get_attribute("aria-sort") is None


def test_a_table_sorts_by_text(reader: Reader):
    table = reader.page.locator("table", has=reader.page.get_by_text("Outcomes of the raw images"))
    table.get_by_role("button", name="outcome").click()
    assert table.locator("tbody td:first-child").all_inner_texts() == [
        *("all", "bad label", "cropped", "no face", "unreadable")
    ]


def test_a_chart_tells_what_is_under_the_pointer(reader: Reader):
    chart = reader.chart(f"Confusion, gender: {CNN}")
    chart.locator(".mark-text text").first.hover()
    told = reader.page.locator("#vg-tooltip-element.visible")
    expect(told).to_contain_text("actual")
    expect(told).to_contain_text("male")
    expect(told).to_contain_text("images")


def test_a_chart_zooms_by_buttons_by_keyboard_and_by_the_wheel(reader: Reader):
    chart = reader.chart("Loss")
    whole = labels(chart, "X-axis")
    plus = chart.get_by_role("button", name="Zoom in: Loss")
    plus.click()
    wait_until(reader, lambda: labels(chart, "X-axis") != whole)
    zoomed = labels(chart, "X-axis")
    plus.focus()
    reader.page.keyboard.press("Enter")
    wait_until(reader, lambda: labels(chart, "X-axis") not in (whole, zoomed))
    chart.get_by_role("button", name="Whole chart: Loss").click()
    wait_until(reader, lambda: labels(chart, "X-axis") == whole)

    before = labels(chart, "Y-axis")
    chart.locator("svg").hover(position={"x": 200, "y": 60})
    reader.page.keyboard.down("Control")
    reader.page.mouse.wheel(0, -300)
    reader.page.keyboard.up("Control")
    wait_until(reader, lambda: labels(chart, "Y-axis") != before)


def test_the_wheel_alone_scrolls_the_page(reader: Reader):
    chart = reader.chart("Loss")
    before, whole = reader.page.evaluate("scrollY"), labels(chart, "Y-axis")
    chart.locator("svg").hover(position={"x": 200, "y": 60})
    reader.page.mouse.wheel(0, 300)
    reader.page.wait_for_function(f"scrollY > {before}")
    assert labels(chart, "Y-axis") == whole


def test_a_variant_is_singled_out_in_the_legend(reader: Reader):
    """Of the first chart, which has it for all of them."""
    chart, other = reader.chart("Score"), reader.chart("Loss")

    def faint(chart) -> int:
        lines = chart.locator(".mark-line path").all()
        return sum(float(line.get_attribute("opacity") or 1) < 0.2 for line in lines)

    assert other.locator(".role-legend-label").count() == 0
    assert faint(chart) == faint(other) == 0
    chart.locator(".role-legend-label text", has_text=re.compile(f"^{CNN}$")).first.click()
    reader.page.wait_for_timeout(300)  # the other charts are drawn a moment later
    assert faint(chart) > 0
    assert faint(other) > 0


def test_the_values_of_a_chart_can_be_read_and_sorted(reader: Reader):
    chart = reader.chart(f"Confusion, gender: {CNN}")
    chart.locator("summary").click()
    table = chart.locator("details table")
    table.wait_for()  # the browser tells the page of an opened element a moment later
    assert table.locator("th").all_inner_texts() == ["actual", "predicted", "images", "share"]
    table.get_by_role("button", name="images").click()
    numbers = [int(text) for text in table.locator("td:nth-child(3)").all_inner_texts()]
    assert numbers == sorted(numbers)
    assert len(numbers) == 4
    shares = table.locator("td:nth-child(4)").all_inner_texts()
    assert max(map(len, shares)) <= len("0.01234")


@pytest.mark.parametrize("width", [390, 320])
def test_a_phone_scrolls_in_one_direction_only(open_report, width: int):
    options = {"viewport": PHONE | {"width": width}, "is_mobile": True, "has_touch": True}
    reader = open_report(**options)
    assert reader.page.locator("#contents").get_attribute("open") is None, "folded"
    reader.draw_all()
    assert reader.page.evaluate("document.documentElement.scrollWidth") == width
    wide = reader.page.evaluate(
        """[...document.querySelectorAll("main *")].filter(element =>
             !element.closest(".table, .plot, .skip") &&
             element.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)"""
    )
    assert wide == []
    assert reader.said == []


def test_the_colours_follow_the_system_and_the_switch(open_report):
    light, dark = (open_report(color_scheme=scheme) for scheme in ("light", "dark"))
    assert background(light) != background(dark)
    switch = dark.page.get_by_role("button", name="Colours")
    chart = dark.chart("Race")
    bar_in_dark = chart.locator(".mark-rect path").first.get_attribute("fill")
    switch.click()
    expect(switch).to_have_text("Colours: light")
    assert background(dark) == background(light)
    expect(chart.locator(".mark-rect path").first).not_to_have_attribute("fill", str(bar_in_dark))
    switch.click()
    expect(switch).to_have_text("Colours: dark")
    assert background(dark) != background(light)
    dark.page.reload()
    expect(switch).to_have_text("Colours: dark")


def test_the_contents_lead_to_every_section_and_open_a_model(reader: Reader):
    links = reader.page.locator("nav a")
    targets = [str(link.get_attribute("href"))[1:] for link in links.all()]
    assert [f"model-{name}" for name in SUITE] == [t for t in targets if t.startswith("model-")]
    for target in targets:
        assert reader.page.locator(f"[id='{target}']").count() == 1
    model = reader.page.locator(f"[id='model-{BLOCK5}']")
    assert model.get_attribute("open") is None
    reader.page.locator(f"nav a[href='#model-{BLOCK5}']").click()
    expect(model).to_have_attribute("open", "")
    expect(model.locator("svg.structure")).to_be_in_viewport()


def test_the_first_key_leads_past_the_contents(reader: Reader):
    reader.page.keyboard.press("Tab")
    skip = reader.page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    reader.page.keyboard.press("Enter")
    expect(reader.page.locator("main")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_checker_of_accessibility_finds_nothing(open_report, scheme: str):
    reader = open_report(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    for title in (
        "Race",
        "Loss",
        "Accuracy by protocol, age",
        f"Confusion, age: {CNN}",
        f"Search {SEARCH}",
    ):
        reader.chart(title)
    found = Axe().run(reader.page).response
    assert len(found["passes"]) > 20
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in found["violations"]] == []
