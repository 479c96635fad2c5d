"""What an operator does in the browser, mostly with the keyboard."""

import os
import re

from playwright.sync_api import expect

from browser import PASSWORD, provisiond, run_test

APP = os.environ["APP"]


def signs_in(browser):
    page = browser.page
    page.goto("/handlers?status=disabled")
    expect(page).to_have_url(re.compile("/sign-in"))
    page.fill("#name", "ann")
    page.fill("#password", "wrong horse")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("#name")).to_have_value("ann")
    browser.expect_errors("status of 4")
    page.fill("#password", PASSWORD)
    page.keyboard.press("Enter")
    # Where one wanted to go.
    expect(page).to_have_url(re.compile(r"/handlers\?status=disabled"))
    expect(page.locator(".whoami")).to_contain_text("operator")


def creates_the_handler(browser):
    page, keys = browser.page, browser.page.keyboard
    page.goto("/handlers")
    expect(page.get_by_text("No handlers yet")).to_be_visible()
    page.locator("#new-handler").focus()
    keys.press("Enter")
    dialog = page.get_by_role("dialog", name="New Handler")
    expect(dialog.get_by_label("Name", exact=True)).to_be_focused()
    keys.type("CRM")
    keys.press("Tab")
    expect(dialog.get_by_label("Event")).to_be_focused()
    keys.type("create")
    keys.press("Tab")
    keys.press("Tab")
    expect(dialog.get_by_label("URL")).to_be_focused()
    keys.press("Enter")
    # Refused beside the field, what was typed is kept, and the field has the focus.
    expect(dialog.locator(".field.wrong")).to_contain_text("Enter the URL")
    expect(dialog.get_by_label("Name", exact=True)).to_have_value("CRM")
    expect(dialog.get_by_label("Event")).to_have_value("clients.create")
    expect(dialog.get_by_label("URL")).to_be_focused()
    browser.expect_errors("422")
    keys.type(f"{APP}/api")
    dialog.get_by_label("Priority").fill("1")
    keys.press("Enter")
    expect(page.get_by_role("status").filter(has_text="was created")).to_be_visible()
    row = page.locator("#list tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text(f"http://{APP}/api")
    # Escape leaves a dialog, and the focus is where it was.
    page.locator("#edit-1").focus()
    keys.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    keys.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("#edit-1")).to_be_focused()


def tests_the_handler(browser):
    page = browser.page
    page.get_by_role("link", name="CRM", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("link", name="Test").click()
    dialog.get_by_role("button", name="Test").click()
    expect(dialog.get_by_text("It worked: HTTP 200")).to_be_visible()
    expect(dialog.get_by_text("x-provisioning-event")).to_have_count(1)
    dialog.get_by_label("Data").fill("[1]")
    dialog.get_by_role("button", name="Test").click()
    expect(dialog.locator(".field.wrong")).to_contain_text("JSON object")
    browser.expect_errors("422")
    page.keyboard.press("Escape")


def publish(page, name):
    page.goto("/events")
    page.get_by_role("link", name="Publish a test event clients.create", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Event")).to_have_value("clients.create")
    expect(dialog).to_contain_text("now 1 handler")
    dialog.get_by_label("Object ID").fill("4711")
    dialog.get_by_label("Data").fill('{"name": "%s", "note": "needle in a haystack"}' % name)
    dialog.get_by_role("button", name="Publish").click()
    expect(page).to_have_url(re.compile("/executions.*event_id="))


def sees_it_live(browser):
    page = browser.page
    page.goto("/executions")
    other = browser.context.new_page()
    publish(other, "Ann")
    # There it appears by itself, the page being live.
    expect(other.locator("#list tbody tr")).to_have_count(1)
    page.goto("/executions")
    expect(page.locator("#list tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Live").click()
    expect(page.locator("[data-tail]")).to_have_class(re.compile("live"))
    page.evaluate("window.isTheSamePage = true")
    publish(other, "Ann")
    other.close()
    expect(page.locator("#list tbody tr")).to_have_count(2)
    assert page.evaluate("window.isTheSamePage"), "the row came without the page being loaded again"
    first = page.locator("#list tbody tr").first
    expect(first).to_contain_text("success")
    first.get_by_role("link", name="Details").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("#sent")).to_contain_text('"note": "needle in a haystack"')
    expect(dialog.locator("#answer")).to_contain_text('"name": "Ann"')
    page.keyboard.press("Escape")
    expect(first.get_by_role("link", name="Details")).to_be_focused()


def repairs_a_dead_letter(browser):
    page = browser.page
    publish(page, "Bob")
    expect(page.locator("#list tbody tr")).to_contain_text("dead letter")
    page.get_by_role("link", name="Dead Letters").click()
    expect(page.locator("#list tbody tr")).to_have_count(1)
    page.locator("#list tbody").get_by_role("link", name="4711", exact=True).click()
    expect(page).to_have_url(re.compile("object_id=4711"))
    page.get_by_role("link", name="Open the dead letter of clients.create, object 4711").click()
    expect(page.locator("main")).to_contain_text("The handler failed in a way that a retry cannot repair.")
    expect(page.locator(".timeline")).to_contain_text("Bob is not known here")
    page.get_by_role("link", name="Edit and replay").click()
    body = page.get_by_label("The event to send")
    page.get_by_role("button", name="Review changes").click()
    expect(page.locator(".field.wrong")).to_contain_text("changed nothing")
    body.fill("{")
    page.get_by_role("button", name="Review changes").click()
    expect(page.locator(".field.wrong")).to_contain_text("not a valid event")
    browser.expect_errors("422")
    page.get_by_role("link", name="Cancel").click()
    page.get_by_role("link", name="Edit and replay").click()
    body.fill(body.input_value().replace("Bob", "Robert"))
    page.get_by_role("button", name="Review changes").click()
    expect(page.locator(".diff .del")).to_contain_text('"name": "Bob"')
    expect(page.locator(".diff .add")).to_contain_text('"name": "Robert"')
    page.get_by_role("button", name="Replay the edited event").click()
    expect(page).to_have_url(re.compile(r"/replays/\d+"))
    expect(page.locator("#replay")).to_contain_text("1 of 1 done")
    page.goto("/dead-letters")
    expect(page.get_by_text("No open dead letters")).to_be_visible()
    page.goto("/dead-letters?state=replayed")
    expect(page.locator("#list tbody tr")).to_have_count(1)
    page.goto("/executions?data=Robert")
    expect(page.locator("#list tbody tr")).to_contain_text("success")


def replays_and_discards_many(browser):
    page = browser.page
    for _ in range(3):
        publish(page, "Bob")
        expect(page.locator("#list tbody tr")).to_contain_text("dead letter")
    page.goto("/dead-letters")
    page.get_by_label("Select all on this page").check()
    expect(page.locator("[data-checked-count]")).to_have_text("3")
    page.locator("[data-check]").first.uncheck()
    page.get_by_role("button", name="Replay selected").click()
    dialog = page.get_by_role("dialog", name="Replay 2 events?")
    expect(dialog).to_contain_text("CRM")
    dialog.get_by_label("Maximum per second").fill("0")
    dialog.get_by_role("button", name="Replay 2").click()
    expect(dialog.locator(".field.wrong")).to_contain_text("1 to 1000")
    browser.expect_errors("422")
    dialog.get_by_label("Maximum per second").fill("100")
    dialog.get_by_role("button", name="Replay 2").click()
    expect(page).to_have_url(re.compile(r"/replays/\d+"))
    # It updates by itself.
    expect(page.locator("#replay")).to_contain_text("2 of 2 done")
    expect(page.locator("#replay .badge").first).to_have_text("finished")
    # Sent back, they failed again: two new ones beside the one that was left.
    page.goto("/dead-letters")
    expect(page.locator("#list tbody tr")).to_have_count(3)
    page.get_by_role("link", name="Discard all").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Discard 3").click()
    expect(dialog.locator(".field.wrong")).to_contain_text("Give a reason", ignore_case=True)
    browser.expect_errors("422")
    dialog.get_by_label("Reason").fill("Bob left")
    dialog.get_by_role("button", name="Discard 3").click()
    expect(page.get_by_text("3 dead letters were discarded")).to_be_visible()
    page.goto("/dead-letters?state=discarded")
    page.get_by_role("link", name="Open the dead letter").first.click()
    expect(page.locator("main")).to_contain_text("Bob left")


def searches(browser):
    page = browser.page
    page.goto("/executions")
    # The key / leads to the search.
    page.keyboard.press("/")
    expect(page.locator("#s-data")).to_be_focused()
    page.keyboard.type("NEEDLE in a haystack")
    page.keyboard.press("Enter")
    expect(page.locator("#list tbody tr").first).to_contain_text("CRM")
    page.goto("/executions?data=nobody+wrote+this")
    expect(page.get_by_text("No execution matches")).to_be_visible()
    page.goto("/executions")
    page.get_by_text("Advanced Search").click()
    page.locator("#s-status").select_option("fail")
    page.locator("#s-handler").select_option(label="CRM")
    page.locator("#s-error").fill("400")
    page.locator("#s-since").fill("2026-01-01T00:00:00")
    page.keyboard.press("Enter")
    expect(page.locator(".chip")).to_have_count(4)
    for row in page.locator("#list tbody tr").all():
        expect(row).to_contain_text("fail")
    page.get_by_label("Search without Status").click()
    expect(page.locator(".chip")).to_have_count(3)


def finds_an_edit_stale(browser):
    page = browser.page
    page.goto("/handlers")
    page.locator("#edit-1").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Priority")).to_have_value("1")
    provisiond("handlers", "update", "1", "--priority", "7")
    dialog.get_by_label("Name", exact=True).fill("CRM of mine")
    dialog.get_by_role("button", name="Save").click()
    alert = dialog.get_by_role("alert")
    expect(alert).to_contain_text("Somebody changed this handler while you edited it")
    expect(alert.locator("del")).to_have_text("1")
    expect(alert.locator("ins")).to_have_text("7")
    expect(dialog.get_by_label("Name", exact=True)).to_have_value("CRM of mine")
    assert provisiond("handlers", "show", "1")["name"] == "CRM", "nothing was saved"
    browser.expect_errors("409")
    dialog.get_by_label("Priority").fill("7")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Handler 1 was saved")).to_be_visible()
    handler = provisiond("handlers", "show", "1")
    assert (handler["name"], handler["priority"]) == ("CRM of mine", 7), handler


def switches_off_and_archives(browser):
    page = browser.page
    page.goto("/handlers")
    page.evaluate("window.isTheSamePage = true")
    switch = page.get_by_role("switch")
    expect(switch).to_have_attribute("aria-checked", "true")
    switch.focus()
    page.keyboard.press("Space")
    expect(switch).to_have_attribute("aria-checked", "false")
    expect(switch).to_be_focused()
    assert page.evaluate("window.isTheSamePage"), "the page was not loaded again"
    assert provisiond("handlers", "show", "1")["status"] == "disabled"
    page.get_by_label("Archive or delete CRM of mine").click()
    dialog = page.get_by_role("dialog", name="Archive or delete CRM of mine?")
    expect(dialog.get_by_role("button", name="Archive")).to_be_focused()
    dialog.get_by_role("button", name="Archive").click()
    expect(page.get_by_text("is archived")).to_be_visible()
    expect(page.get_by_text("No handlers yet")).to_be_visible()
    page.get_by_text("Advanced Search").click()
    page.locator("#s-status").select_option("archived")
    page.locator(".panel").get_by_role("button", name="Search").click()
    expect(page.locator("#list tbody tr")).to_contain_text("Archived")
    page.get_by_role("link", name="CRM of mine", exact=True).click()
    history = page.get_by_role("dialog").locator(".timeline")
    expect(history).to_contain_text("Archived")
    expect(history).to_contain_text("ann (console)")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Bring back CRM of mine").click()
    expect(page.get_by_text("is back in the list and disabled")).to_be_visible()
    expect(page.get_by_role("switch", name="CRM of mine is disabled")).to_be_visible()


def signs_out(browser):
    browser.page.get_by_role("button", name="Sign out").click()
    browser.page.goto("/handlers")
    expect(browser.page).to_have_url(re.compile("/sign-in"))


def operator_flow(_playwright, browser):
    for part in (signs_in, creates_the_handler, tests_the_handler, sees_it_live, repairs_a_dead_letter,
                 replays_and_discards_many, searches, finds_an_edit_stale, switches_off_and_archives, signs_out):
        part(browser)
        print(f"{part.__name__}: well", flush=True)


run_test(operator_flow)
