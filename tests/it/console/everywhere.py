"""Every page, wide and narrow, light and dark, with what hostile people leave in it."""

import os

from playwright.sync_api import expect

from browser import MainThread, axe, run_test
from hostile import HOSTILE, arrange, forms, pages, rows


WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 390, "height": 844}


def looks_at(browser, path):
    """Tells what axe-core finds. What depends on colours is looked for in both schemes, what depends on the width in both widths."""
    page = browser.page
    page.emulate_media(color_scheme="light")
    opens(page, path, WIDE)
    found = axe(page)
    page.emulate_media(color_scheme="dark")
    found += axe(page, runOnly=["color-contrast"])
    opens(page, path, NARROW)
    return found + axe(page, rules={"color-contrast": {"enabled": False}})


def opens(page, path, size):
    page.set_viewport_size(size)
    page.goto(path)
    page.wait_for_load_state("load")
    assert page.evaluate("window.hacked") is None, f"{path} ran what somebody wrote into it"
    assert "hunter2" not in page.content(), f"{path} shows a secret"
    too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert too_wide <= 0, f"{path} is {too_wide} pixels wider than the screen"
    turned = page.evaluate(TURNED_NEIGHBOURS)
    assert not turned, f"{path} turns round what stands beside it: {turned}"


# Texts behind a character that turns the order of letters round, as far as that reaches: to the end of the next element
# around it that isolates, or is a block.
TURNED_NEIGHBOURS = """() => {
    const found = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let text = texts.nextNode(); text; text = texts.nextNode()) {
        if (!text.data.includes('\u202e')) continue;
        let around = text.parentElement;
        const contains = e => e.tagName === 'TEXTAREA' || ['isolate', 'plaintext', 'isolate-override'].includes(getComputedStyle(e).unicodeBidi);
        while (!contains(around)) around = around.parentElement;
        const rest = document.createRange();
        rest.setStartAfter(text);
        rest.setEndAfter(around.lastChild);
        if (rest.toString().trim()) found.push(around.outerHTML.slice(0, 300));
    }
    return found;
}"""


def axe_can_find_something(browser):
    if "AXE" not in os.environ:
        return
    browser.page.goto("/handlers")
    browser.page.emulate_media(color_scheme="dark")
    browser.page.evaluate("document.querySelector('h1').style.color = '#444'")
    assert axe(browser.page, runOnly=["color-contrast"]), "dark grey on black is a violation"
    browser.page.evaluate("document.querySelector('label[for=s-text]').remove(); document.querySelector('#s-text').placeholder = ''")
    assert axe(browser.page), "a field without a label is a violation"


def a_mebibyte_does_not_freeze(browser):
    page = browser.page
    big = [row for row in rows("executions", "--event", "clients.update") if row["handler"]][0]["id"]
    page.goto(f"/executions/{big}")
    work = MainThread(page)
    page.get_by_role("link", name="Show all of it").click()
    expect(page.locator("dialog #sent pre").nth(50)).to_be_attached(timeout=30_000)
    # The browser draws, and answers.
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    shown = work.seconds()
    page.evaluate(
        """async () => { const inside = document.querySelector("dialog div.code");
            for (let n = 0; n < 40; n++) { inside.scrollTop += 4000; await new Promise((drawn) => requestAnimationFrame(drawn)); } }""")
    scrolled = work.seconds() - shown
    print(f"a mebibyte: shown with {shown:.2f} s of the page's own time, scrolled 40 times with {scrolled:.2f} s", flush=True)
    assert shown < 3, f"showing it takes {shown:.1f} s"
    assert scrolled < 4, f"scrolling in it takes {scrolled / 40:.2f} s each time"
    sent = page.locator("dialog #sent").evaluate("(sent) => sent.textContent")
    assert '"last": "row"' in sent, "all of it is there"


def everywhere(_playwright, browser):
    execution, dead_letter = arrange()
    browser.sign_in()
    found = [fault for path in pages(execution, dead_letter) + forms(dead_letter) for fault in looks_at(browser, path)]
    assert not found, "\n".join(found)
    expect(browser.page.get_by_role("button", name="Sign out")).to_be_visible()
    browser.page.goto(f"/executions/{execution}")
    expect(browser.page.locator("#answer")).to_contain_text('<script>window.hacked = "answer"</script>')
    browser.page.goto("/handlers")
    expect(browser.page.locator("#handler-1")).to_contain_text(HOSTILE)
    browser.page.set_viewport_size(WIDE)
    axe_can_find_something(browser)
    a_mebibyte_does_not_freeze(browser)


run_test(everywhere)
