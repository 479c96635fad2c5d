"""Every page, as a viewer and as an operator, wide and narrow, light and dark, with what hostile people leave in it."""

import os
import time

from playwright.sync_api import expect

from browser import Browser, axe, provisiond, story

APP = os.environ["APP"]
HOSTILE = '<script>window.hacked = 1</script>'
CHANGES = "main form[method=post], main [href$='/edit'], main [href$='/new'], main [href$='/delete'], main [href*='/replay?']"


def arrange():
    """Handlers, executions and dead letters of which everything that can be text is hostile."""
    provisiond("handlers", "create", "--name", f"Bad {HOSTILE}", "--event", "clients.create", "--http", f"{APP}/hostile",
               "--header", "x-secret: hunter2-is-secret")
    provisiond("handlers", "create", "--name", "x" * 200, "--event", "clients.update", "--http", f"{APP}/echo?{'y' * 500}")
    data = '{"name": "%s", "long": "%s"}' % (HOSTILE, "z" * 3000)
    # This waits until the workers know both handlers.
    provisiond("publish", "clients.update", "--object-id", "1", "--data", "@big.json", "--wait")
    provisiond("publish", "clients.create", "--object-id", HOSTILE, "--data", data)


def rows(command, *arguments):
    """Waits until there are some."""
    for _ in range(200):
        found = provisiond(command, "list", *arguments)
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"there are no {command} {arguments}")


def pages(execution, letter):
    return [
        "/", "/?period=day", "/handlers", "/handlers?status=archived", "/handlers/1", "/handlers/2",
        "/executions", "/executions?data=window.hacked", f"/executions?object_id={HOSTILE}", f"/executions/{execution}",
        "/dead-letters", "/dead-letters?state=any&text=nothing", f"/dead-letters/{letter}", "/events", "/replays",
    ]


def forms(letter):
    return [
        "/handlers/new", "/handlers/1/edit", "/handlers/1/delete", "/handlers/1/test", "/handlers/1/secret",
        "/events/new", "/events/publish", "/events/clients.archive/remove", "/dead-letters/replay",
        f"/dead-letters/discard?id={letter}", f"/dead-letters/{letter}/edit", "/executions/replay?status=fail",
    ]


def looks_at(browser, path, found):
    page = browser.page
    page.goto(path)
    page.wait_for_load_state("load")
    assert page.evaluate("window.hacked") is None, f"{path} ran what somebody wrote into it"
    assert "hunter2" not in page.content(), f"{path} shows a secret"
    too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert too_wide <= 0, f"{path} is {too_wide} pixels wider than the screen"
    found.extend(axe(page))


def viewer_changes_nothing(playwright, letter, all_pages):
    viewer = Browser(playwright)
    viewer.sign_in("vic")
    page = viewer.page
    for path in all_pages:
        page.goto(path)
        expect(page.locator(CHANGES)).to_have_count(0)
    expect(page.locator(".whoami")).to_contain_text("viewer")
    # And if somebody asks all the same:
    for path in forms(letter):
        assert page.goto(path).status == 403, path
    csrf = page.goto("/handlers") and page.locator("[name=csrf]").first.get_attribute("value")
    status = page.evaluate(
        """async (csrf) => (await fetch("/handlers/1/status", {method: "POST",
            body: new URLSearchParams({csrf, status: "disabled"})})).status""", csrf)
    assert status == 403, status
    viewer.expect_errors("403")
    viewer.end()


def works_without_scripts(playwright):
    plain = Browser(playwright, java_script_enabled=False)
    plain.sign_in()
    page = plain.page
    page.goto("/handlers")
    page.get_by_role("link", name="New Handler").click()
    page.get_by_label("Name", exact=True).fill("Plain")
    page.get_by_role("button", name="Create").click()
    expect(page.locator(".field.wrong").first).to_be_visible()
    plain.expect_errors("422")
    page.get_by_label("Event").select_option("clients.delete")
    page.get_by_text("HTTP", exact=True).click()
    page.get_by_label("URL").fill(f"{APP}/echo")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("was created")).to_be_visible()
    page.get_by_role("switch", name="Plain is enabled").click()
    expect(page.get_by_role("switch", name="Plain is disabled")).to_be_visible()
    page.get_by_role("switch", name="Plain is disabled").click()
    page.goto("/events/publish?event=clients.delete")
    page.get_by_role("button", name="Publish").click()
    for _ in range(100):
        if page.locator("#list tbody tr").count():
            break
        time.sleep(0.1)
        page.reload()
    page.get_by_role("link", name="Details").click()
    expect(page.locator("#answer")).to_have_text("fine")
    plain.end()


def axe_can_find_something(browser):
    if "AXE" not in os.environ:
        return
    browser.page.goto("/handlers")
    browser.page.evaluate("document.querySelector('label[for=s-text]').remove(); document.querySelector('#s-text').placeholder = ''")
    assert axe(browser.page), "a field without a label is a violation"


def a_mebibyte_does_not_freeze(browser):
    page = browser.page
    big = [row for row in rows("executions", "--event", "clients.update") if row["handler"]][0]["id"]
    page.goto(f"/executions/{big}")
    begun = time.monotonic()
    page.get_by_role("link", name="Show all of it").click()
    expect(page.locator("dialog #sent pre").nth(50)).to_be_attached()
    # The browser draws, and answers.
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    took = time.monotonic() - begun
    assert took < 5, f"it took {took:.1f} s"
    longest = page.evaluate(
        """async () => { let longest = 0, last = performance.now();
            const inside = document.querySelector("dialog div.code");
            for (let n = 0; n < 40; n++) { inside.scrollTop += 4000;
                await new Promise((drawn) => requestAnimationFrame(drawn));
                const now = performance.now(); longest = Math.max(longest, now - last); last = now; }
            return longest; }""")
    assert longest < 500, f"scrolling stops for {longest:.0f} ms"
    shown = page.locator("dialog #sent").evaluate("(sent) => sent.textContent")
    assert '"last": "row"' in shown, "all of it is there"
    print(f"a mebibyte was shown in {took:.2f} s, the longest frame {longest:.0f} ms", flush=True)


def everywhere(playwright, browser):
    arrange()
    execution = rows("executions", "--event", "clients.create", "--status", "fail")[0]["id"]
    letter = rows("dead-letters")[0]["id"]
    all_pages = pages(execution, letter)
    browser.sign_in()
    found = []
    for scheme in ("light", "dark"):
        for width in (1400, 390):
            browser.page.emulate_media(color_scheme=scheme)
            browser.page.set_viewport_size({"width": width, "height": 844})
            for path in all_pages + forms(letter):
                looks_at(browser, path, found)
    assert not found, "\n".join(found)
    expect(browser.page.get_by_role("button", name="Sign out")).to_be_visible()
    browser.page.goto(f"/executions/{execution}")
    expect(browser.page.locator("#answer")).to_contain_text('<script>window.hacked = "answer"</script>')
    browser.page.goto("/handlers")
    expect(browser.page.locator("#handler-1")).to_contain_text(HOSTILE)
    browser.page.set_viewport_size({"width": 1400, "height": 900})
    axe_can_find_something(browser)
    a_mebibyte_does_not_freeze(browser)
    works_without_scripts(playwright)
    viewer_changes_nothing(playwright, letter, all_pages)


story(everywhere)
