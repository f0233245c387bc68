#!/usr/bin/env python3
"""Opens every screen of a running dashboard in Chromium and fails on anything a person would notice.

    browser.py URL FOLDER [--empty]

URL is the address to begin with (the one-time link, or `http://127.0.0.1:7070/dashboard/`), FOLDER takes the screenshots, `--empty` says that the mesh has no
service yet. Checked: no page error, no message of the console, no request to another origin, the map within 5 s with numbers that move, every link and button
has a name, screens work by keyboard, light and dark, and what others wrote stays text. Needs the Python package `playwright` and Debian's
`chromium-headless-shell` (or `CHROMIUM`).
"""

import os
import pathlib
import sys
import urllib.parse

from playwright.sync_api import expect, sync_playwright

MAP_WITHIN_MS = 5_000
SCREENS = ["map", "map?as=table", "services", "proxies", "changes"]
NAMELESS = """() => [...document.querySelectorAll('a, button, input, select, [role=button]')]
    .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length || e.title)).map((e) => e.outerHTML.slice(0, 120))"""
FORGED = "() => document.querySelectorAll('#app script, #app iframe, #app [onerror], #app [onclick], #app object').length"


def open_page(browser, problems, origin):
    page = browser.new_page(viewport={"width": 1400, "height": 860})
    page.on("pageerror", lambda error: problems.append(f"page error: {error}"))
    page.on("console", lambda message: problems.append(f"console: {message.text}") if message.type in ("error", "warning") else None)
    page.on("dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: None if request.url.startswith(origin) else problems.append(f"asks elsewhere: {request.url}"))
    return page


def visit(page, base, screen, folder, name, problems):
    page.goto(f"{base}#/{screen}")
    expect(page.locator("h1")).to_be_visible(timeout=MAP_WITHIN_MS)
    page.wait_for_timeout(300)
    page.screenshot(path=folder / f"{name}.png")
    problems.extend(f"{name}: without a name: {part}" for part in page.evaluate(NAMELESS))
    if page.evaluate(FORGED):
        problems.append(f"{name}: markup of others in the page")


def see_map(page):
    expect(page.locator(".node").first).to_be_visible(timeout=MAP_WITHIN_MS)
    numbers = page.locator(".node .amount")
    expect(numbers.first).to_be_visible(timeout=MAP_WITHIN_MS)
    before = numbers.all_text_contents()
    page.wait_for_function("(before) => [...document.querySelectorAll('.node .amount')].map((e) => e.textContent).join() !== before", arg=",".join(before), timeout=20_000)


def use_keyboard(page, problems):
    """Chooses a service on the map, goes to its page and opens what it says about itself, without a mouse."""
    name = page.evaluate("() => [...document.querySelectorAll('.node')].find((e) => /\\./.test(e.querySelector('.second').textContent) || e.querySelector('.amount'))?.ariaLabel")
    node = page.get_by_role("button", name=name).first
    node.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".panel")).to_be_visible()
    details = page.get_by_role("link", name="All about it")
    if details.count() > 0:
        details.focus()
        page.keyboard.press("Enter")
        expect(page.locator("section[aria-label^='Service ']")).to_be_visible()
        for summary in page.locator("summary").all():
            summary.focus()
            page.keyboard.press("Enter")
        if page.evaluate(FORGED):
            problems.append("metadata became markup")
    page.get_by_role("link", name="Services", exact=True).first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Services")).to_be_visible()
    rows = page.locator("tbody tr").count()
    page.keyboard.press("/")
    page.keyboard.type("no-such-service")
    expect(page.locator("tbody tr")).to_have_count(0)
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    expect(page.locator("tbody tr")).to_have_count(rows)


def main(url, folder, empty):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = urllib.parse.urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}/"
    problems = []
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium-headless-shell")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = open_page(browser, problems, origin)
        page.goto(url)
        expect(page.locator("h1")).to_be_visible(timeout=MAP_WITHIN_MS)
        if not empty:
            see_map(page)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for screen in SCREENS:
                visit(page, f"{origin}dashboard/", screen, folder, f"{screen.replace('?as=', '-')}-{scheme}", problems)
        if not empty:
            page.goto(f"{origin}dashboard/#/map")
            expect(page.locator(".node").first).to_be_visible()
            use_keyboard(page, problems)
            page.screenshot(path=folder / "keyboard.png")
        browser.close()
    print("\n".join(problems) or "the dashboard is fine")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], "--empty" in sys.argv[3:]))
