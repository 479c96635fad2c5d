"""Every page, wide and narrow, in the scheme of the environment (light or dark), with what hostile people leave in it."""

import os

from playwright.sync_api import expect

from browser import MainThread, axe, story
from hostile import HOSTILE, arrange, forms, pages, rows


def looks_at(browser, path, found):
    page = browser.page
    page.goto(path)
    page.wait_for_load_state("load")
    assert page.evaluate("window.hacked") is None, f"{path} ran what somebody wrote into it"
    assert "hunter2" not in page.content(), f"{path} shows a secret"
    too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert too_wide <= 0, f"{path} is {too_wide} pixels wider than the screen"
    turned = page.evaluate(TURNED_NEIGHBOURS)
    assert not turned, f"{path} turns round what stands beside it: {turned}"
    found.extend(axe(page))


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
    execution, letter = arrange()
    browser.sign_in()
    found = []
    browser.page.emulate_media(color_scheme=os.environ["SCHEME"])
    for width in (1400, 390):
        browser.page.set_viewport_size({"width": width, "height": 844})
        for path in pages(execution, letter) + forms(letter):
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


story(everywhere)
