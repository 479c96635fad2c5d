"""What the browser tests have in common: Chromium as a person has it, and a witness of what went wrong in it."""

import json
import os
import pathlib
import subprocess

from playwright.sync_api import sync_playwright

BASE = os.environ["CONSOLE"]
PASSWORD = os.environ["PASSWORD"]
# Nothing of it may call home.
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]
# Whatever takes longer than this on a busy machine is a failure.
TIMEOUT_MS = 20_000


class Browser:
    """One person at one browser. What the console of any page says, and where any request goes, is remembered."""

    def __init__(self, playwright, scheme="light", width=1400, **context):
        self.chromium = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=ARGUMENTS)
        self.context = self.chromium.new_context(
            base_url=BASE, viewport={"width": width, "height": 900}, color_scheme=scheme, **context)
        self.context.set_default_timeout(TIMEOUT_MS)
        self.errors, self.elsewhere = [], []
        self.context.on("console", self._record_message)
        self.context.on("weberror", lambda error: self.errors.append(str(error.error)))
        self.context.on("request", self._record_request)
        self.page = self.context.new_page()

    def _record_message(self, message):
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.text} ({message.location.get('url')})")

    def _record_request(self, request):
        if not request.url.startswith((BASE + "/", "data:")):
            self.elsewhere.append(request.url)

    def sign_in(self, name="ann"):
        self.page.goto("/sign-in")
        self.page.fill("#name", name)
        self.page.fill("#password", PASSWORD)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url("**/")

    def expect_errors(self, *fragments):
        """Takes note of errors that belong to the test: a refused form is logged by the browser itself."""
        left = [error for error in self.errors if not any(fragment in error for fragment in fragments)]
        self.errors.clear()
        assert not left, f"the browser's console says {left}"

    def end(self):
        self.expect_errors()
        assert not self.elsewhere, f"other hosts were asked: {self.elsewhere}"
        self.chromium.close()


class MainThread:
    """What a page costs the thread that draws it and answers: its own time on the processor, which other work on the machine does not lengthen."""

    def __init__(self, page):
        self.session = page.context.new_cdp_session(page)
        self.session.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.before = 0
        self.before = self.seconds()

    def seconds(self):
        """Since this was made."""
        metrics = self.session.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "ThreadTime") - self.before


def axe(page, **rules):
    """What axe-core finds on a page that is serious: one line each. The rules are its options runOnly or rules."""
    script = os.environ.get("AXE")
    if not script:
        return []
    # Evaluated by the debugger, to which the page's policy does not apply.
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(pathlib.Path(script).read_text() + ";0")
    found = page.evaluate("(rules) => axe.run(document, {resultTypes: ['violations'], ...rules})", rules)["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    return [f"{page.url}: {one['id']}: {[node['html'][:200] for node in one['nodes'][:3]]}" for one in serious]


def provisiond(*arguments):
    """The command line, on the same world; what it prints as JSON, the last line of it where that is a stream."""
    ran = subprocess.run(
        [os.environ["PROVISIOND"], *arguments, "--output", "json"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"provisiond {arguments}: {ran.stderr}"
    return json.loads(ran.stdout.strip().splitlines()[-1] if "--wait" in arguments else ran.stdout)


def run_test(test):
    """Runs a test, and leaves a picture of where it stopped."""
    with sync_playwright() as playwright:
        browser = Browser(playwright)
        try:
            test(playwright, browser)
            browser.end()
        except BaseException:
            browser.page.screenshot(path="stopped.png", full_page=True)
            print(f"the test stopped at {browser.page.url}; errors: {browser.errors}", flush=True)
            raise
