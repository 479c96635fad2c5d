// Small controls: copy buttons, "check all" boxes, closing drop-downs, the / key.
import { announce } from "./page.js";

export function followControls() {
  document.addEventListener("click", (event) => {
    const copy = event.target.closest?.("[data-copy]");
    if (copy) copyFrom(copy);
    // Intervals of a chart are links for the mouse only. In the tab order they would be many stops; the legend below
    // has links for the keyboard.
    const interval = event.target.closest?.("rect[data-href]");
    if (interval) location.assign(interval.dataset.href);
    for (const open of document.querySelectorAll("details.advanced[open]")) {
      if (!open.contains(event.target)) open.open = false;
    }
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches?.("[data-check-all]")) checkAll(event.target);
    if (event.target.matches?.("[data-check]")) count();
    if (event.target.matches?.("select[data-sample]")) sample(event.target);
    if (event.target.matches?.("[data-submit]")) event.target.form.requestSubmit();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") closeDropDown(event);
    const typing = event.target.closest?.("input, textarea, select, [contenteditable], dialog");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const search = document.querySelector("[data-search]");
      if (search) {
        event.preventDefault();
        search.focus();
        search.select();
      }
    }
  });
  count();
  forgetNotice();
}

async function copyFrom(button) {
  const text = document.getElementById(button.dataset.copy)?.textContent ?? "";
  const label = button.querySelector("[data-label]") ?? button;
  try {
    await navigator.clipboard.writeText(text);
    announce("Copied.");
    const before = label.textContent;
    label.textContent = "Copied";
    setTimeout(() => (label.textContent = before), 1500);
  } catch {
    announce("The browser does not allow copying on this page.");
  }
}

function checkAll(box) {
  for (const one of document.querySelectorAll("[data-check]")) one.checked = box.checked;
  count();
}

/** Updates the buttons, the counter and "check all" after a change of the checked rows. */
function count() {
  const boxes = [...document.querySelectorAll("[data-check]")];
  const checked = boxes.filter((box) => box.checked).length;
  for (const place of document.querySelectorAll("[data-checked-count]")) place.textContent = String(checked);
  for (const button of document.querySelectorAll("[data-needs-checked]")) button.disabled = checked === 0;
  const all = document.querySelector("[data-check-all]");
  if (all) {
    all.checked = boxes.length > 0 && checked === boxes.length;
    all.indeterminate = checked > 0 && checked < boxes.length;
  }
}

function closeDropDown(event) {
  const open = document.querySelector("details.advanced[open]");
  if (!open || document.querySelector("dialog[open]")) return;
  event.preventDefault();
  open.open = false;
  open.querySelector("summary").focus();
}

/** Loads the publish form again, with a sample of the event type that was selected. */
function sample(select) {
  const link = document.createElement("a");
  link.href = select.dataset.sample.replace("EVENT", encodeURIComponent(select.value));
  link.dataset.dialog = "";
  link.hidden = true;
  select.after(link);
  link.click();
}

/** Removes the notice from the URL, so that a reload does not show it again. */
function forgetNotice() {
  const url = new URL(location.href);
  if (!url.searchParams.has("done")) return;
  for (const name of ["done", "what"]) url.searchParams.delete(name);
  history.replaceState(history.state, "", url);
}
