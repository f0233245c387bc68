#!/usr/bin/env python3
"""Runs a small mesh with real traffic, and looks in Chromium at how the page of a service shows its policies.

    policies.py LENO FOLDER

LENO is the binary, FOLDER takes the screenshots. A server, two instances of `cart` whose answers this program steers, and the proxy of a caller that asks all the
time. Then: nothing is in force and the page says what to do; a breaker opens, is seen on the page and in the table of services, and closes; an instance is
ejected and comes back; a limit refuses; something goes wrong on purpose; a switch is turned. Each in light and dark, and as `browser.py` looks at every page: no
error, nothing without a name, nothing from elsewhere. Nothing of it is left.
"""

import http.client
import http.server
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from playwright.sync_api import expect, sync_playwright

import browser

# Starting a process, a change on its way to a proxy, a report, a document: all well below, on a slow machine too.
WITHIN_MS = 20_000
SERVICE = "services/cart.shop"
POLICY = """apiVersion: leno.mesh/v1
kind: TrafficPolicy
metadata: {name: cart, namespace: shop}
spec:
  targetRefs: [{name: cart}]
"""
BREAKER = POLICY + "  breaker: {consecutiveErrors: 5, openTime: 4s}\n  limits: {requests: 64}\n"
EJECTION = POLICY + "  loadBalancer: {policy: roundRobin}\n  ejection: {consecutiveErrors: 3, baseTime: 5s}\n"
LIMIT = POLICY + "  rateLimits: [{name: own, at: caller, limit: {requests: 5, per: 1s}}]\n"
FAULT = """apiVersion: leno.mesh/v1
kind: FaultPolicy
metadata: {name: drill, namespace: shop}
spec:
  targetRefs: [{name: cart}]
  faults: [{name: half-fails, abort: {status: 500, percent: 50}}]
"""
SWITCH = """apiVersion: leno.mesh/v1
kind: Switch
metadata: {name: sale, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: cart}]
---
apiVersion: leno.mesh/v1
kind: Lane
metadata: {name: checkout-2, namespace: shop}
spec:
  tag: {header: x-lane, value: checkout-2}
  versions: [{name: cart, version: v2}]
"""


class Steered(http.server.ThreadingHTTPServer):
    """An application that fails while it is told to."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answering)
        self.failing = False
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answering(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(503 if self.server.failing else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Mesh:
    """Processes of leno in a directory, and a caller that asks ten times a second."""

    def __init__(self, leno, directory):
        self.leno, self.directory, self.processes = leno, pathlib.Path(directory), []
        self.http, self.grpc, self.outbound = (f"127.0.0.1:{free_port()}" for _ in range(3))
        self.stopping = threading.Event()
        self.caller = threading.Thread(target=self.ask)

    def start(self, *arguments):
        log = (self.directory / f"{len(self.processes)}.log").open("w")
        process = subprocess.Popen([self.leno, *arguments], cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append(process)

    def begin(self, instances):
        self.start("server", "--data-dir", "state", "--http-listen", self.http, "--grpc-listen", self.grpc)
        until(lambda: self.ready())
        common = ["--server", self.grpc, "--admin-listen", "off", "--metrics-listen", "off"]
        for instance in instances:
            port = f"8080=http@127.0.0.1:{instance.server_address[1]}"
            self.start("proxy", *common, "--service", "cart.shop", "--port", port, "--inbound-listen", "127.0.0.1:0", "--outbound-listen", "off")
        self.start("proxy", *common, "--service", "web.shop", "--outbound-listen", self.outbound)
        until(lambda: self.call() == 200)
        self.caller.start()

    def ready(self):
        try:
            return urllib.request.urlopen(f"http://{self.http}/ready", timeout=2).status == 200
        except OSError:
            return False

    def call(self):
        connection = http.client.HTTPConnection(self.outbound, timeout=5)
        try:
            connection.request("GET", "/", headers={"host": "cart"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def ask(self):
        while not self.stopping.wait(0.1):
            self.call()

    def run(self, *arguments):
        command = [self.leno, *arguments, "--api", f"http://{self.http}", "--data-dir", "state"]
        subprocess.run(command, cwd=self.directory, check=True, capture_output=True, timeout=30)

    def apply(self, resources):
        (self.directory / "resources.yaml").write_text(resources)
        self.run("apply", "-f", "resources.yaml")

    def link(self):
        token = (self.directory / "state/admin.token").read_text().strip()
        request = urllib.request.Request(f"http://{self.http}/api/v1/login-link", method="POST", headers={"authorization": f"Bearer {token}"})
        return json.load(urllib.request.urlopen(request, timeout=5))["url"]

    def end(self):
        self.stopping.set()
        if self.caller.ident:
            self.caller.join()
        for process in reversed(self.processes):
            process.kill()
            process.wait()


def free_port():
    # Below those that the kernel gives to whoever asks for any.
    for port in range(17_000 + time.time_ns() % 14_000, 32_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise RuntimeError("no port is free")


def until(holds):
    end = time.monotonic() + WITHIN_MS / 1000
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("what is waited for does not come")
        time.sleep(0.05)


def row(page, table):
    """The rows of the table of this name."""
    return page.locator(f"table:has(caption:text-is('{table}')) tbody tr")


def shoot(watched, folder, name):
    page = watched.page
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=folder / f"policies-{name}-{scheme}.png", full_page=True)
    watched.problems.extend(f"{name}: without a name: {part}" for part in page.evaluate(browser.NAMELESS))


def look(watched, mesh, carts, base, folder):
    page = watched.page
    expect(page.locator("h1")).to_be_visible(timeout=WITHIN_MS)
    page.goto(f"{base}#/{SERVICE}")
    expect(page.get_by_text("No policy is for this service")).to_be_visible(timeout=WITHIN_MS)
    shoot(watched, folder, "none")

    mesh.apply(BREAKER)
    breakers = row(page, "Breakers")
    expect(breakers).to_contain_text("closed", timeout=WITHIN_MS)
    for cart in carts:
        cart.failing = True
    expect(breakers.locator(".badge.bad")).to_have_text("open", timeout=WITHIN_MS)
    expect(breakers.locator(".refused")).to_be_visible(timeout=WITHIN_MS)
    expect(breakers).to_contain_text("web.shop")
    expect(page.locator(".policies [role=status]")).to_contain_text("1 breakers open")
    shoot(watched, folder, "open")
    page.get_by_role("link", name="Services", exact=True).first.click()
    expect(page.locator("tbody tr", has_text="cart.shop")).to_contain_text("breaker open", timeout=WITHIN_MS)
    shoot(watched, folder, "services")
    for cart in carts:
        cart.failing = False
    page.goto(f"{base}#/{SERVICE}")
    expect(breakers.locator(".badge.ok")).to_have_text("closed", timeout=WITHIN_MS)
    print("a breaker was seen open, and closed again", flush=True)

    mesh.apply(EJECTION)
    carts[0].failing = True
    ejected = row(page, "Ejected instances")
    expect(ejected).to_contain_text("failures in a row", timeout=WITHIN_MS)
    expect(row(page, "Instances").get_by_text("out at 1 caller")).to_have_count(1)
    shoot(watched, folder, "ejected")
    carts[0].failing = False
    expect(ejected).to_have_count(0, timeout=WITHIN_MS)
    print("an ejected instance was seen, and came back", flush=True)

    mesh.apply(f"{LIMIT}---\n{FAULT}---\n{SWITCH}")
    expect(row(page, "Limits").locator(".refused")).to_be_visible(timeout=WITHIN_MS)
    expect(row(page, "Faults in force")).to_contain_text("half-fails", timeout=WITHIN_MS)
    shoot(watched, folder, "limits")
    expect(row(page, "Lanes")).to_contain_text("x-lane: checkout-2")
    switch = row(page, "Switches")
    expect(switch).to_contain_text("never")
    mesh.run("switch", "sale", "on", "-n", "shop")
    expect(switch.locator(".badge")).to_have_text("on", timeout=WITHIN_MS)
    expect(switch).to_contain_text("by admin")
    shoot(watched, folder, "all")
    page.set_viewport_size({"width": 420, "height": 860})
    shoot(watched, folder, "narrow")
    if page.evaluate("() => document.documentElement.scrollWidth > innerWidth"):
        watched.problems.append("narrow: the page is wider than its window")
    print("a limit, a fault, a switch and a lane were seen", flush=True)


def main(leno, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    carts = [Steered(), Steered()]
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        mesh = Mesh(str(pathlib.Path(leno).resolve()), directory)
        try:
            mesh.begin(carts)
            chromium = browser.launch(playwright)
            watched = browser.Watched(chromium, f"http://{mesh.http}/")
            watched.page.goto(mesh.link())
            look(watched, mesh, carts, f"http://{mesh.http}/dashboard/", folder)
            chromium.close()
        finally:
            mesh.end()
    print("\n".join(watched.problems) or "the policies are fine")
    return 1 if watched.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
