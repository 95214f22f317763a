"""The frame of a report: one HTML page that opens from disk and works without a network."""

from importlib.resources import files

from personalize.report.markup import Markup, element, joined


def whole_page(title: str, body: Markup, *, style: str = "", script: str = "") -> str:
    """A page with the look that all reports share.

    Args:
        title: Title of the window.
        body: What is inside.
        style: Further CSS.
        script: Further JavaScript; the page must be whole without it.
    """
    head = joined(
        [
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("title", title),
            Markup(f"<style>{_asset('page.css')}{style}</style>"),
        ]
    )
    return (
        f'<!doctype html>\n<html lang="en-GB"><head>{head}</head>'
        f"<body>{body}<script>{_asset('page.js')}{script}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return files("personalize.report").joinpath(name).read_text(encoding="utf-8")
