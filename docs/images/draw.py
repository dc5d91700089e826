"""The README's pictures, from the reports of the last run: `make images`, with Chromium on the PATH."""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
REPORTS = HERE.parents[1] / "reports"


def main() -> None:
    """Write `report.png`, the top of the report page, and `rounds.png`, the rounds of EnF + PNAO."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise SystemExit("error: no Chromium is on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        page.goto((REPORTS / "index.html").as_uri())
        page.screenshot(path=HERE / "report.png")
        browser.close()
    shutil.copyfile(REPORTS / "figures/rounds_enf_pnao.png", HERE / "rounds.png")


if __name__ == "__main__":
    main()
