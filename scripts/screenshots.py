"""Take the pictures of the page that stand in the documentation.

    personalize serve --config configs/personalize/serve.yaml    # in another terminal
    python scripts/screenshots.py http://127.0.0.1:8000

It needs the package playwright and a Chromium on the PATH, asks only the address it is given, and
writes `recommendations.png`, `driving.png` and `phone.png`.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LARGEST_BYTES = 300_000
SETTLED_MS = 700
NARROW = 500


def main() -> None:
    """Take all three pictures."""
    options = _options()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sys.exit("Screenshots need the package playwright: pip install playwright.")
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"No browser on the PATH: one of {', '.join(BROWSERS)} is needed.")
    options.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--disable-gpu"]
        )
        for name, view, steps, settings in (
            ("recommendations", "recommendations", _recommendations, _screen(1280, 900)),
            ("driving", "driving", _driving, _screen(1280, 900)),
            ("phone", "driving", _driving, _screen(360, 720, device_scale_factor=2)),
        ):
            context = chromium.new_context(**settings)
            page = context.new_page()
            page.goto(f"{options.address.rstrip('/')}/#{view}")
            steps(page, options)
            page.wait_for_selector("[aria-busy=true]", state="detached")
            page.wait_for_timeout(SETTLED_MS)
            page.evaluate("scrollTo(0, 0)")
            if settings["viewport"]["width"] < NARROW:
                page.locator(".picture").evaluate("(one) => one.scrollIntoView()")
            path = options.out / f"{name}.png"
            page.screenshot(path=path)
            context.close()
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
            if path.stat().st_size > LARGEST_BYTES:
                sys.exit(f"{path} is larger than {LARGEST_BYTES / 1000:.0f} kB.")
        chromium.close()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Take the pictures of the page that stand in the documentation."
    )
    parser.add_argument("address", help="where the page is served, such as http://127.0.0.1:8000")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"), help="where to write")
    parser.add_argument("--user", help="whose recommendations to show; the first user if left out")
    parser.add_argument("--situation", help="what scene to look for; the first scene if left out")
    return parser.parse_args()


def _screen(width: int, height: int, **more: float) -> dict[str, Any]:
    return {"viewport": {"width": width, "height": height}, "color_scheme": "light"} | more


def _recommendations(page: "Page", options: argparse.Namespace) -> None:
    """One preference turned round, one slider moved, one item's reasons open."""
    page.wait_for_selector(".rankings li[data-id]")
    if options.user:
        _pick(page, "A user of the data", options.user)
    page.locator(".attributes input").first.fill("0.6")
    page.wait_for_timeout(SETTLED_MS)
    page.wait_for_selector("[aria-busy=true]", state="detached")
    page.locator(".rankings .with summary").first.click()
    page.locator(".wish textarea").first.focus()


def _driving(page: "Page", options: argparse.Namespace) -> None:
    """A faster, closer style of one's own, two seconds into its ride."""
    page.wait_for_selector("polyline.way[data-style=mine]", state="attached")
    if options.situation:
        page.get_by_label("Or describe a situation").fill(options.situation)
        page.keyboard.press("Enter")
        page.locator(".nearest button").first.click()
        page.wait_for_selector("polyline.way[data-style=mine]", state="attached")
    for label, value in (("Speed", "0.6"), ("Time gap", "-0.5")):
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Drive on").click()
    page.wait_for_selector(".player:not([hidden])")
    page.get_by_label("Time in the ride").fill("2")


def _pick(page: "Page", label: str, text: str) -> None:
    page.get_by_role("combobox", name=label).fill(text)
    page.get_by_role("option", name=text).first.click()
    page.wait_for_timeout(SETTLED_MS)


if __name__ == "__main__":
    main()
