// Fetching a page and taking a part of it: the server renders, here is only put in place what it rendered. Markup that
// was parsed apart runs no script.

/** Asks for a page; gives the answer and its document. Somebody who was signed out meanwhile gets the sign-in page. */
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

/** Puts the parts that both documents have under the same id in the place of those here, and keeps the focus. */
export function replaceParts(selector, fetched) {
  for (const part of document.querySelectorAll(selector)) {
    const fresh = part.id && fetched.getElementById(part.id);
    if (!fresh || fresh.isEqualNode(part)) continue;
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const place = focused ? [...part.querySelectorAll(FOCUSABLE)].indexOf(focused) : -1;
    part.replaceWith(document.adoptNode(fresh));
    if (!focused) continue;
    const again = (focused.id && document.getElementById(focused.id)) || fresh.querySelectorAll(FOCUSABLE)[place];
    again?.focus({ preventScroll: true });
  }
}

/** Says something to those who do not see the page change. */
export function announce(text) {
  const place = document.getElementById("said");
  if (place) place.textContent = text;
}

/** Shows a line about what went wrong, above the page. */
export function complain(text) {
  const notice = document.createElement("div");
  notice.className = "notice bad";
  notice.setAttribute("role", "alert");
  notice.textContent = text;
  document.querySelector("#main .notice[role=alert]")?.remove();
  document.getElementById("main")?.prepend(notice);
}
