#!/usr/bin/env python3
"""Opens every screen of a running dashboard in Chromium and fails on anything a person would notice.

    browser.py URL FOLDER [--empty]
    browser.py - FOLDER --until-killed

URL is the address to begin with: the one-time link, or `http://127.0.0.1:7070/dashboard/`; `-` reads it from standard input once the browser is up, so that
somebody can measure from the start of the server until `moving` is printed. FOLDER takes the screenshots; `--empty` says that the mesh has no service yet;
`--until-killed` stays until the server is killed, as the demo's story does, says `signed out` when it is back, and reads a new link from standard input.

Checked: no page error, no message of the console, no failed request, none to another origin, the map within 5 s with numbers that move, every link and button
has a name, no text is wider than its card, screens work by keyboard, light and dark, what others wrote stays text, and a page outlives its server. Needs the
Python package `playwright` and Debian's `chromium-headless-shell` (or `CHROMIUM`).
"""

import os
import pathlib
import sys
import urllib.parse

from playwright.sync_api import expect, sync_playwright

MAP_WITHIN_MS = 5_000
# The demo kills its server after half a minute, and brings it back within twenty seconds.
KILLED_WITHIN_MS = 60_000
BACK_WITHIN_MS = 30_000
# Each screen with the word that it stands under, and what is there once it has all its parts.
SCREENS = {
    "map": ("Map", ".node"),
    "map?as=table": ("Map", "tbody tr"),
    "services": ("Services", "tbody tr"),
    "services/cart.shop": ("Services", ".charts svg"),
    "proxies": ("Proxies", "tbody tr"),
    "changes": ("Changes", ".changes li"),
}
NUMBERS = "() => [...document.querySelectorAll('.node .amount')].map((e) => e.textContent).join()"
NAMELESS = """() => [...document.querySelectorAll('a, button, input, select, [role=button]')]
    .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length || e.title)).map((e) => e.outerHTML.slice(0, 120))"""
FORGED = "() => document.querySelectorAll('#app script, #app iframe, #app [onerror], #app [onclick], #app object').length"
# Texts of a node that leave its card or lie on each other.
CROWDED = """() => [...document.querySelectorAll('.node')].flatMap((node) => {
    const card = node.querySelector('rect.card').getBoundingClientRect();
    const texts = [...node.querySelectorAll(':scope > text')].map((e) => [e.textContent, e.getBoundingClientRect()]);
    const outside = texts.filter(([, box]) => box.left < card.left || box.right > card.right);
    const over = texts.filter(([, a], n) => texts.slice(n + 1).some(([, b]) => a.left < b.right && b.left < a.right && a.top < b.bottom - 2 && b.top < a.bottom - 2));
    return [...outside, ...over].map(([text]) => text);
})"""


class Watched:
    """A page, and what was wrong with it."""

    def __init__(self, browser, origin):
        self.problems = []
        self.is_killed = False
        self.page = browser.new_page(viewport={"width": 1400, "height": 860})
        self.page.on("pageerror", lambda error: self.note(f"page error: {error}"))
        self.page.on("console", lambda message: self.note(f"console: {message.text}") if message.type in ("error", "warning") else None)
        self.page.on("dialog", lambda dialog: (self.note(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: None if request.url.startswith(origin) else self.note(f"asks elsewhere: {request.url}"))
        self.page.on("response", lambda response: self.note(f"{response.status} for {response.url}") if response.status >= 400 else None)
        self.page.on("requestfailed", self.failed)

    def failed(self, request):
        # A page that is left ends its stream and what it asks for; the browser calls that aborted.
        if request.failure != "net::ERR_ABORTED":
            self.note(f"{request.failure} for {request.url}")

    def note(self, problem):
        if not self.is_killed:
            self.problems.append(problem)


def launch(playwright):
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium-headless-shell")
    return playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])


def visit(watched, base, screen, folder, name):
    page = watched.page
    page.goto(f"{base}#/{screen}")
    expect(page.locator("h1")).to_be_visible(timeout=MAP_WITHIN_MS)
    word, part = SCREENS[screen]
    expect(page.locator("nav a[aria-current=page]")).to_contain_text(word)
    expect(page.locator(f"{part}, .empty").first).to_be_visible(timeout=MAP_WITHIN_MS)
    # What was put in place is drawn in the next frame.
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.screenshot(path=folder / f"{name}.png")
    watched.problems.extend(f"{name}: without a name: {part}" for part in page.evaluate(NAMELESS))
    if page.evaluate(FORGED):
        watched.problems.append(f"{name}: markup of others in the page")


def see_map(page, folder, name):
    """The map with services, edges and numbers; then one of the numbers changes."""
    expect(page.locator(".node .amount").first).to_be_visible(timeout=MAP_WITHIN_MS)
    expect(page.locator(".edge").first).to_be_visible(timeout=MAP_WITHIN_MS)
    before = page.evaluate(NUMBERS)
    page.wait_for_function(f"(before) => ({NUMBERS})() !== before", arg=before, timeout=4 * MAP_WITHIN_MS)
    services, edges = page.locator(".node").count(), page.locator(".edge").count()
    print(f"moving: {services} nodes, {edges} edges, {before} became {page.evaluate(NUMBERS)}", flush=True)
    page.screenshot(path=folder / f"{name}.png")


def see_counts(watched, services, edges):
    """Everything that the demo has is on the map."""
    page = watched.page
    page.wait_for_function("([nodes, edges]) => document.querySelectorAll('.node').length >= nodes && document.querySelectorAll('.edge').length >= edges",
                           arg=[services, edges], timeout=2 * MAP_WITHIN_MS)
    watched.problems.extend(f"map: {text!r} does not fit" for text in page.evaluate(CROWDED))


def use_keyboard(watched):
    """Chooses a service on the map, goes to its page and opens what it says about itself, without a mouse."""
    page = watched.page
    name = page.evaluate("() => [...document.querySelectorAll('.node')].find((e) => /\\./.test(e.querySelector('.second').textContent) || e.querySelector('.amount'))?.dataset.id")
    node = page.locator(f".node[data-id='{name}']")
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
            watched.problems.append("metadata became markup")
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


def outlive_the_server(watched, base, folder):
    """A page says that its server is gone, and that it is signed out when another is there; a new link, from standard input, shows everything again."""
    page = watched.page
    page.goto(f"{base}#/map")
    expect(page.locator(".node").first).to_be_visible()
    watched.is_killed = True
    expect(page.locator(".link.lost")).to_be_visible(timeout=KILLED_WITHIN_MS)
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    page.screenshot(path=folder / "server-gone.png")
    expect(page.locator(".link.denied")).to_be_visible(timeout=BACK_WITHIN_MS)
    expect(page.get_by_role("alert")).to_contain_text("not signed in")
    page.screenshot(path=folder / "signed-out.png")
    print("signed out", flush=True)
    link = sys.stdin.readline().strip()
    # What the signed-out page asked for last is not this one's.
    page.goto("about:blank")
    watched.is_killed = False
    page.goto(link)
    see_map(page, folder, "server-back")


def main(url, folder, options):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        if url == "-":
            print("ready", flush=True)
            url = sys.stdin.readline().strip()
        parts = urllib.parse.urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}/"
        base = f"{origin}dashboard/"
        watched = Watched(browser, origin)
        page = watched.page
        page.goto(url)
        expect(page.locator("h1")).to_be_visible(timeout=MAP_WITHIN_MS)
        if "--empty" not in options:
            see_map(page, folder, "first")
        if "--until-killed" in options:
            see_counts(watched, services=8, edges=7)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for screen in SCREENS:
                visit(watched, base, screen, folder, f"{screen.replace('?as=', '-').replace('/', '-')}-{scheme}")
        if "--empty" not in options:
            page.goto(f"{base}#/map")
            expect(page.locator(".node").first).to_be_visible()
            use_keyboard(watched)
        if "--until-killed" in options:
            outlive_the_server(watched, base, folder)
        browser.close()
    print("\n".join(watched.problems) or "the dashboard is fine")
    return 1 if watched.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
