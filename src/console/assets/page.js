// Fetches pages and inserts parts of them. The server renders all HTML. Scripts in HTML that DOMParser has parsed do
// not run.

/** Fetches a page; returns the response and its document. If the session has ended, reloads the page to sign in. */
export async function fetchPage(url, options = {}) {
  const headers = { accept: "text/html", "x-requested-with": "console", ...options.headers };
  const response = await fetch(url, { ...options, headers, credentials: "same-origin" });
  const type = response.headers.get("content-type") ?? "";
  if (!type.startsWith("text/html")) throw new Error(`the console answered with ${response.status}`);
  const document = new DOMParser().parseFromString(await response.text(), "text/html");
  if (document.querySelector("[data-sign-in]")) {
    location.reload();
    return new Promise(() => {});
  }
  return { response, document };
}

const FOCUSABLE = "a[href], button, input, select, textarea, summary";

/** Replaces the matching parts of this page with the parts of `fetched` that have the same id. Keeps the focus. */
export function replaceParts(selector, fetched) {
  for (const part of document.querySelectorAll(selector)) {
    const fresh = part.id && fetched.getElementById(part.id);
    if (!fresh || fresh.isEqualNode(part)) continue;
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const place = focused ? [...part.querySelectorAll(FOCUSABLE)].indexOf(focused) : -1;
    part.replaceWith(document.adoptNode(fresh));
    if (!focused) continue;
    const target = (focused.id && document.getElementById(focused.id)) || fresh.querySelectorAll(FOCUSABLE)[place];
    target?.focus({ preventScroll: true });
  }
}

/** Announces a change of the page to screen readers. */
export function announce(text) {
  const place = document.getElementById("said");
  if (place) place.textContent = text;
}

/** Shows an error above the content of the page. */
export function showError(text) {
  const notice = document.createElement("div");
  notice.className = "notice bad";
  notice.setAttribute("role", "alert");
  notice.textContent = text;
  document.querySelector("#main .notice[role=alert]")?.remove();
  document.getElementById("main")?.prepend(notice);
}
