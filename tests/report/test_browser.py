"""The page in a real, headless browser: nothing on the console, and everything works by mouse and by keyboard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from report import made
from runs.records import record
from shoestring.report.write import write_report

pytestmark = pytest.mark.browser
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
# The contrast of a text with what is behind it; WCAG 2.2, 1.4.3.
FAINT = """() => {
  const channel = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const pixel = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const weights = [0.2126, 0.7152, 0.0722];
  const light = (rgb) => weights.reduce((sum, weight, at) => sum + weight * channel(rgb[at] / 255), 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = pixel(getComputedStyle(at).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255, 255];
  };
  const faint = [];
  const words = "td, th, p, dt, dd, h1, h2, h3, li, a, button, summary, .prompt, .word";
  for (const element of document.querySelectorAll(words)) {
    if (!element.checkVisibility() || !element.textContent.trim() || element.disabled) continue;
    if (element.closest(".skip") || element.getAttribute("aria-pressed") === "false") continue;
    const [a, b] = [light(pixel(getComputedStyle(element).color)), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.push(`${element.tagName} ${element.textContent.slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return faint;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium, driven by playwright; without either, these tests are skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    made.study(place)
    made.put(place, record(status="failed", error="step 3: the loss is <b>nan</b>", method__lr=1.0))
    return write_report([place], tmp_path_factory.mktemp("page"), title="A <study> & more")


class Page:
    """An opened page that notes whatever the browser complains of."""

    def __init__(self, browser: Any, path: Path, size: dict[str, int] = WIDE, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self) -> Any:
        return self.page

    def __exit__(self, *failed: object) -> None:
        said, asked = self.said, [url for url in self.asked if not url.startswith(("file:", "data:"))]
        self.context.close()
        if failed[0] is None:
            assert said == []
            assert asked == []


def texts(page: Any, selector: str) -> list[str]:
    return [text.strip() for text in page.locator(selector).all_inner_texts()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_page_opens_without_a_word_is_legible_and_scrolls_only_downwards(
    browser: Any, report: Path, size: dict[str, int], scheme: str
) -> None:
    with Page(browser, report, size, scheme) as page:
        assert page.title() == "A <study> & more"
        heads = texts(page, "main > section:not([hidden]) h2")
        assert heads == [
            "Results", "What it costs", "How many weights it takes", "Learning curves", "Classes",
            "Hardest examples", "Runs",
        ]  # fmt: skip
        assert texts(page, "nav a") == heads
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(252, 251, 248)" if scheme == "light" else "rgb(20, 22, 25)")
        assert page.evaluate(FAINT) == []


def test_the_button_changes_the_colours(browser: Any, report: Path) -> None:
    with Page(browser, report) as page:
        ground = "getComputedStyle(document.body).backgroundColor"
        before = page.evaluate(ground)
        page.get_by_role("button", name="Dark colours").click()
        assert page.evaluate(ground) != before
        page.get_by_role("button", name="Light colours").click()
        assert page.evaluate(ground) == before


def test_heads_sort_and_say_how(browser: Any, report: Path) -> None:
    with Page(browser, report) as page:
        column = "#table tbody tr td:nth-child(3)"
        head = page.locator("#table thead th").nth(2)
        before = texts(page, column)
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        values = [float(text.split()[0]) for text in texts(page, column)]
        assert values == sorted(values, reverse=True)
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        assert [float(text.split()[0]) for text in texts(page, column)] == values[::-1]
        methods = page.locator("#table thead th").nth(1)
        methods.get_by_role("button").click()
        assert (methods.get_attribute("aria-sort"), head.get_attribute("aria-sort")) == ("ascending", "none")
        assert texts(page, "#table tbody td:nth-child(2)") == ["adam", "adam + lora", "mezo", "zero-shot"]
        assert sorted(texts(page, column)) == sorted(before)


def test_filters_leave_what_has_all_words(browser: Any, report: Path) -> None:
    with Page(browser, report) as page:
        page.get_by_label("Filter rows").fill("LORA adam")
        assert texts(page, "#table tbody tr:visible td:nth-child(2)") == ["adam + lora"]
        assert texts(page, "#results .count") == ["1 of 4 rows"]
        page.get_by_label("Filter runs").fill("failed")
        assert texts(page, "#runs .count")[0] == "1 of 49 runs"
        page.locator("#runs .open").click()
        assert page.locator("#runs .open").get_attribute("aria-expanded") == "true"
        assert "the loss is <b>nan</b>" in page.locator("#runs .more").inner_text()


def test_figures_change_with_their_buttons_and_rows_can_be_left_out(browser: Any, report: Path) -> None:
    with Page(browser, report) as page:
        costs = page.locator("#costs")
        assert costs.locator("svg.chart").count() == 2
        assert "forward passes" in costs.locator("svg.chart").first.text_content()
        costs.get_by_role("button", name="seconds").click()
        assert "seconds of fitting" in costs.locator("svg.chart").first.text_content()
        marks = costs.locator("figure").first.locator("path[transform]")
        assert marks.count() == 4
        costs.get_by_role("button", name="mezo", exact=True).click()
        assert marks.count() == 3
        assert costs.get_by_role("button", name="mezo", exact=True).get_attribute("aria-pressed") == "false"
        page.locator("#curves").get_by_role("button", name="forward passes").click()
        assert "examples" in page.locator("#curves svg.chart").first.text_content()
        costs.locator("summary").click()
        costs.locator(".values tbody tr").first.wait_for()  # It is made when the browser says that it was opened.
        assert costs.locator(".values tbody tr").count() == 8


def test_what_stands_beside_an_axis_leaves_its_numbers_room(browser: Any, tmp_path: Path) -> None:
    made.put(tmp_path, record(0.6))  # Alone it has an axis of halves: 59.5, 60, 60.5.
    write_report([tmp_path], tmp_path)
    with Page(browser, tmp_path / "index.html") as page:
        boxes = page.evaluate(
            """() => [...document.querySelectorAll("#costs svg.chart text")].map((one) => {
              const { left, right } = one.getBoundingClientRect();
              return [one.textContent, left, right];
            })"""
        )
    (beside,) = (right for text, _, right in boxes if text.startswith("accuracy on"))
    numbers = [left for text, left, _ in boxes if text in ("59.5", "60.5")]
    assert len(numbers) == 2
    assert min(numbers) > beside


def test_a_point_says_what_it_is(browser: Any, report: Path) -> None:
    with Page(browser, report) as page:
        point = page.locator("#costs figure path[transform]").first
        point.scroll_into_view_if_needed()
        # What a point says goes away when the page scrolls, which the browser tells with the next frame.
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        point.hover()
        page.locator("#tip").wait_for()
        tip = page.locator("#tip").inner_text()
        assert tip.startswith("zero-shot\n")
        cell = page.locator("#table tbody tr").first.locator("td").nth(1).inner_text()
        assert f"{cell} at 0 forward passes" in tip


def test_classes_and_examples_change_with_the_task(browser: Any, report: Path) -> None:
    with Page(browser, report) as page:
        assert page.locator("#classes table").first.locator("tbody tr").count() == 2
        page.locator("#classes select").select_option("trec")
        assert page.locator("#classes table").first.locator("tbody tr").count() == 6
        assert page.locator("#examples .example").count() == 5
        assert page.locator("#examples .prompt").first.inner_text() == made.EVIL
        page.locator("#examples").get_by_role("button", name="Show 15 more").click()
        assert page.locator("#examples .example").count() == 20


def test_tab_reaches_every_control_and_every_box_that_scrolls(browser: Any, report: Path) -> None:
    with Page(browser, report) as page:
        wanted = page.evaluate(
            """() => {
              const all = [...document.querySelectorAll("a, button, select, input, summary, [tabindex]")];
              const open = all.filter((one) => one.checkVisibility() && !one.disabled);
              open.forEach((one, at) => { one.dataset.at = at; });
              const scrolling = [...document.querySelectorAll("*")].filter((one) =>
                one.checkVisibility() && one.scrollWidth > one.clientWidth + 1 &&
                getComputedStyle(one).overflowX === "auto");
              return [open.length, scrolling.every((one) => one.tabIndex === 0 || one.querySelector("a"))];
            }"""
        )
        assert wanted[1]
        reached, bare = set(), []
        for _ in range(wanted[0]):
            page.keyboard.press("Tab")
            at, outline = page.evaluate(
                "[document.activeElement.dataset.at, getComputedStyle(document.activeElement).outlineStyle]"
            )
            reached.add(at)
            bare += [at] if outline == "none" else []
        assert len(reached - {None}) == wanted[0]
        assert bare == []


def test_a_keyboard_sorts_and_opens(browser: Any, report: Path) -> None:
    with Page(browser, report) as page:
        page.locator("#table thead button").nth(2).focus()
        page.keyboard.press("Enter")
        assert page.locator("#table thead th").nth(2).get_attribute("aria-sort") == "descending"
        page.locator("#runs .open").first.focus()
        page.keyboard.press("Space")
        assert page.locator("#runs .more").first.is_visible()
        assert "Settings that differ" in page.locator("#runs .more").first.inner_text()


def test_runs_come_a_page_at_a_time_and_sort_as_numbers(browser: Any, tmp_path: Path) -> None:
    for seed in range(120):
        made.put(tmp_path / "runs", record(seed / 120, seed=seed))
    with Page(browser, write_report([tmp_path / "runs"], tmp_path)) as page:
        rows = page.locator("#runs tbody tr:not(.more)")
        assert rows.count() == 50
        page.get_by_role("button", name="Next").click()
        page.get_by_role("button", name="Next").click()
        assert rows.count() == 20
        assert page.get_by_role("button", name="Next").is_disabled()
        page.locator("#runs thead").get_by_role("button", name="seed").click()
        assert texts(page, "#runs tbody tr:not(.more) td:nth-child(5)")[:3] == ["119", "118", "117"]


def test_a_page_with_next_to_nothing_in_it_opens(browser: Any, tmp_path: Path) -> None:
    made.put(tmp_path / "runs", record(method="zero-shot"))
    with Page(browser, write_report([tmp_path / "runs"], tmp_path)) as page:
        assert texts(page, "main > section:not([hidden]) h2") == ["Results", "What it costs", "Runs"]


@pytest.mark.parametrize("task", ["STS-B", "SQuAD"])
def test_values_and_written_answers_are_shown(browser: Any, tmp_path: Path, task: str) -> None:
    row = {"split": "test", "uid": "test:0", "prompt": "Where?\nHere."}
    row |= (
        {"label": 2.0, "prediction": 1.5, "scores": [0.0, 1.0]}
        if task == "STS-B"
        else {"golds": ["Rome", "in Rome"], "prediction": "", "score": -1.0}
    )
    made.put(tmp_path / "runs", record(0.5, task=task), rows=[row])
    with Page(browser, write_report([tmp_path / "runs"], tmp_path)) as page:
        shown = page.locator("#examples").inner_text()
        assert ("0.50" if task == "STS-B" else "(nothing)") in shown
        assert ("2" if task == "STS-B" else "Rome | in Rome") in shown


def test_in_print_nothing_is_cut_off_and_controls_are_gone(browser: Any, report: Path) -> None:
    with Page(browser, report, {"width": 760, "height": 1000}, "dark") as page:
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(252, 251, 248)"
        assert not page.locator("nav").is_visible()
        assert not page.locator(".controls").first.is_visible()
        assert page.locator("#table").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_buttons_of_costs_are_those_of_what_is_known(browser: Any, tmp_path: Path) -> None:
    for seed, value in ((13, 0.8), (21, 0.9)):
        made.put(tmp_path / "runs", record(value, seed=seed).model_copy(update={"passes": None}))
    report = write_report([tmp_path / "runs"], tmp_path / "page")
    with Page(browser, report) as page:
        assert texts(page, "#costs .controls button") == ["seconds", "memory", "trained weights"]
        page.locator("#costs").get_by_role("button", name="memory").click()
        (label,) = page.locator("#costs svg.chart").all()
        assert label.get_attribute("aria-label").endswith("against peak MiB above the weights")
