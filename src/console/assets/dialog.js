// A link with data-dialog opens the sheet of its page ([data-sheet]) in a <dialog>. If the server rejects a form in the
// dialog, the dialog shows the form again with the typed values and the errors. If the server accepts it, the browser
// follows the redirect, as without scripts.
import { fetchPage, showError } from "./page.js";

export function followDialogs() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-dialog]");
    if (!link || event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    open(link.href, link);
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("[data-close]")) {
      const dialog = event.target.closest("dialog");
      if (dialog) {
        event.preventDefault();
        dialog.close();
      }
    }
  });
}

/** Opens the sheet of a page in a dialog. When the dialog closes, `link` gets the focus back. */
export async function open(url, link) {
  const inside = link.closest("dialog");
  link.setAttribute("aria-busy", "true");
  try {
    const { document: page } = await fetchPage(url);
    const sheet = page.querySelector("[data-sheet]");
    if (!sheet) {
      location.assign(url);
    } else if (inside) {
      fill(inside, sheet);
    } else {
      show(sheet, link);
    }
  } catch (error) {
    showError(`This could not be opened: ${error.message}. Is the console still running?`);
  } finally {
    link.removeAttribute("aria-busy");
  }
}

function show(sheet, link) {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "dialog-title");
  const top = document.createElement("div");
  top.className = "top";
  const title = document.createElement("h2");
  title.id = "dialog-title";
  const close = document.createElement("button");
  close.type = "button";
  close.className = "iconbutton";
  close.dataset.close = "";
  close.title = "Close (Esc)";
  close.setAttribute("aria-label", "Close");
  close.append(document.getElementById("icon-close").content.cloneNode(true));
  top.append(title, close);
  const inside = document.createElement("div");
  inside.className = "inside";
  inside.tabIndex = -1;
  dialog.append(top, inside);
  document.body.append(dialog);
  fill(dialog, sheet);
  dialog.addEventListener("mousedown", (event) => {
    // A press on the backdrop closes the dialog. A click event would also fire for a selection that ends outside.
    if (event.target === dialog && !dialog.querySelector("form[data-changed]")) dialog.close();
  });
  dialog.addEventListener("input", (event) => event.target.form?.setAttribute("data-changed", ""));
  dialog.addEventListener("close", () => {
    dialog.remove();
    const opener = link.isConnected ? link : link.id && document.getElementById(link.id);
    opener?.focus?.({ preventScroll: true });
  });
  dialog.showModal();
  focusIn(dialog);
}

/** Replaces the content of a dialog with a sheet. */
export function fill(dialog, sheet) {
  dialog.classList.toggle("wide", sheet.classList.contains("wide"));
  dialog.querySelector("#dialog-title").textContent = sheet.dataset.sheet;
  dialog.querySelector(".inside").replaceChildren(document.adoptNode(sheet));
  dialog.querySelector(".inside").scrollTop = 0;
  if (dialog.open) focusIn(dialog);
}

function focusIn(dialog) {
  const wrong = dialog.querySelector(".field.wrong :is(input, select, textarea)");
  const first = dialog.querySelector("[autofocus]");
  (wrong ?? first ?? dialog.querySelector(".inside")).focus();
}
