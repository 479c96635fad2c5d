"""Those who have less: a viewer's rights, or a browser without JavaScript."""

import time

from playwright.sync_api import expect

from browser import Browser, run_test
from hostile import APP, arrange, forms, pages

CHANGES = "main form[method=post], main [href$='/edit'], main [href$='/new'], main [href$='/delete'], main [href*='/replay?']"


def viewer_changes_nothing(viewer):
    execution, dead_letter = arrange()
    viewer.sign_in("vic")
    page = viewer.page
    for path in pages(execution, dead_letter):
        page.goto(path)
        expect(page.locator(CHANGES)).to_have_count(0)
    expect(page.locator(".whoami")).to_contain_text("viewer")
    # And if somebody asks all the same:
    for path in forms(dead_letter):
        assert page.goto(path).status == 403, path
    csrf = page.goto("/handlers") and page.locator("[name=csrf]").first.get_attribute("value")
    status = page.evaluate(
        """async (csrf) => (await fetch("/handlers/1/status", {method: "POST",
            body: new URLSearchParams({csrf, status: "disabled"})})).status""", csrf)
    assert status == 403, status
    viewer.expect_errors("403")


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


def restricted(playwright, browser):
    viewer_changes_nothing(browser)
    works_without_scripts(playwright)


run_test(restricted)
