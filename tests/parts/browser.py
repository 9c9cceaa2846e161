"""Chromium looks at boards: what it draws, what it complains about, and a picture of it."""

from __future__ import annotations

import shutil
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.parts.broker import UnavailableError

WIDTH = 1440
SECONDS_MAX = 30.0
EMPTY_SECONDS = 6.0  # so long a panel may say that it has no data
# A panel is done when nothing loads and it holds a drawing with at least one visible pixel, a table with rows, a number, or words.
_PANELS = """() => [...document.querySelectorAll('[data-panelid]')].filter(panel => !panel.querySelector('.dashboard-row')).map(panel => {
  const text = panel.innerText.trim();
  const drawn = [...panel.querySelectorAll('canvas')].some(canvas => {
    if (!canvas.width || !canvas.height) return false;
    const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    for (let i = 3; i < pixels.length; i += 4 * 7) if (pixels[i]) return true;
    return false;
  });
  return {
    title: text.split('\\n')[0],
    loading: !!panel.querySelector('[aria-label="Panel loading bar"]'),
    failed: !!panel.querySelector('[aria-label="Panel status"], [data-testid*="Panel status"], .panel-info-corner--error'),
    empty: /No data|does not have a time field|\\nnone$/.test(text),
    full: drawn || text.split('\\n').length > 1,
  };
})"""


@dataclass(frozen=True, slots=True)
class View:
    """What was seen of one board. `errors`: of the page; `failed`, `empty`: titles of panels."""

    errors: Sequence[str]
    panels: int
    failed: Sequence[str]
    empty: Sequence[str]


@contextmanager
def chromium() -> Iterator[Browser]:
    binary = shutil.which("chromium")
    if binary is None:
        raise UnavailableError("no `chromium` on the PATH (Debian: chromium, fonts-dejavu-core)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=binary, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        yield browser
        browser.close()


class Eye:
    """One window of a browser on one Grafana. What that Grafana complains about on a page without a board is not ours."""

    def __init__(self, browser: Browser, grafana: str) -> None:
        self._grafana = grafana
        self._context: BrowserContext = browser.new_context(viewport={"width": WIDTH, "height": 1000})
        self._page: Page = self._context.new_page()
        self._heard: list[str] = []
        self._page.on("pageerror", lambda error: self._heard.append(str(error)))
        self._page.on("console", lambda line: self._heard.append(line.text) if line.type == "error" else None)
        self._page.goto(f"{grafana}/dashboards?kiosk")
        self._page.wait_for_load_state("networkidle")
        self._usual = {_first_line(error) for error in self._heard}

    def look(
        self,
        board: Mapping[str, object],
        query: Mapping[str, str],
        picture: Path | None,
        *,
        panels: int,
        height: int | None = None,
    ) -> View:
        """Open a board of so many panels, wait until it is drawn, take its picture: all of it, or its first `height` pixels."""
        self._heard.clear()
        rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])  # type: ignore[attr-defined]
        self._page.set_viewport_size(
            {"width": WIDTH, "height": 38 * rows + 24}
        )  # all of it, or panels below are not drawn
        words = urllib.parse.urlencode(query)
        self._page.goto(f"{self._grafana}/d/{board['uid']}/x?kiosk&{words}")
        found = self._settled(panels)
        if picture is not None:
            picture.parent.mkdir(parents=True, exist_ok=True)
            clip = None if height is None else {"x": 0, "y": 0, "width": WIDTH, "height": height}
            self._page.screenshot(path=str(picture), clip=clip)  # type: ignore[arg-type]
        ours = [error for error in self._heard if _first_line(error) not in self._usual]
        return View(
            errors=ours, panels=len(found), failed=[panel["title"] for panel in found if panel["failed"]],
            empty=[panel["title"] for panel in found if panel["empty"] or not panel["full"]],
        )  # fmt: skip

    def _settled(self, panels: int) -> list[dict[str, str]]:
        end = time.monotonic() + SECONDS_MAX
        quiet, patience = 0, time.monotonic() + EMPTY_SECONDS
        while True:
            found: list[dict[str, str]] = self._page.evaluate(_PANELS)
            done = len(found) >= panels and all(panel["full"] and not panel["loading"] for panel in found)
            done = done and (time.monotonic() > patience or not any(panel["empty"] for panel in found))
            quiet = quiet + 1 if done else 0
            if quiet >= 3 or time.monotonic() > end:
                return found
            self._page.wait_for_timeout(150)

    def close(self) -> None:
        self._context.close()


def _first_line(error: str) -> str:
    return error.partition("\n")[0]
