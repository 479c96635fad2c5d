// Submits forms in a dialog and forms with data-swap, and shows the response in place: in the dialog, or in the parts
// of the page that data-swap selects. The browser submits all other forms.
import { fill, open } from "./dialog.js";
import { announce, fetchPage, replaceParts, showError } from "./page.js";

export function followForms() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    const dialog = form.closest("dialog");
    const swap = form.dataset.swap;
    if (event.submitter?.hasAttribute("data-sheet-form")) {
      event.preventDefault();
      const action = event.submitter.hasAttribute("formaction") ? event.submitter.formAction : form.getAttribute("action");
      open(`${action}?${new URLSearchParams(new FormData(form))}`, event.submitter);
      return;
    }
    if (event.defaultPrevented || (!dialog && !swap) || event.submitter?.hasAttribute("data-plain")) return;
    event.preventDefault();
    if (form.classList.contains("busy")) return;
    send(form, event.submitter, dialog, swap);
  });
}

async function send(form, button, dialog, swap) {
  const method = (button?.getAttribute("formmethod") ?? form.method).toUpperCase();
  // A field named "action" would hide the property form.action.
  let url = button?.hasAttribute("formaction") ? button.formAction : form.getAttribute("action") ?? location.href;
  const values = new URLSearchParams(new FormData(form, button));
  if (method === "GET") url = `${url.split("?")[0]}?${values}`;
  form.classList.add("busy");
  form.setAttribute("aria-busy", "true");
  try {
    const options = method === "GET" ? {} : { method, body: values };
    const { response, document: page } = await fetchPage(url, options);
    answer(form, response, page, dialog, swap);
  } catch (error) {
    (dialog ? showErrorIn(dialog) : showError)(`The request failed: ${error.message}. Is the console still running?`);
  } finally {
    form.classList.remove("busy");
    form.removeAttribute("aria-busy");
  }
}

function answer(form, response, page, dialog, swap) {
  const sheet = page.querySelector("[data-sheet]");
  if (dialog && sheet) {
    fill(dialog, sheet);
  } else if (swap && response.ok) {
    replaceParts(swap, page);
    dialog?.close();
    announce(page.querySelector(".notice")?.textContent.trim() ?? "Done.");
  } else if (response.redirected && response.ok) {
    location.assign(response.url);
  } else {
    const problem = page.querySelector("[data-problem]")?.textContent.trim();
    const text = problem ?? `The console answered with ${response.status}.`;
    (dialog ? showErrorIn(dialog) : showError)(text);
  }
}

function showErrorIn(dialog) {
  return (text) => {
    dialog.querySelector(".inside > .notice.bad")?.remove();
    const notice = document.createElement("div");
    notice.className = "notice bad";
    notice.setAttribute("role", "alert");
    notice.textContent = text;
    dialog.querySelector(".inside").prepend(notice);
    notice.scrollIntoView({ block: "nearest" });
  };
}
