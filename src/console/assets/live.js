// Parts marked data-live are asked for again every so many seconds, and replaced where they differ. A page that nobody
// looks at asks for nothing.
import { fetchPage, replaceParts } from "./page.js";

let failures = 0;

export function followLive() {
  if (!document.querySelector("[data-live]")) return;
  document.getElementById("live-state")?.removeAttribute("hidden");
  plan();
}

/** Seconds until the next look: what the page says, and longer while the console does not answer. */
function pause() {
  const wished = [...document.querySelectorAll("[data-live]")].map((part) => Number(part.dataset.live));
  const least = Math.min(...wished.filter((seconds) => seconds > 0));
  return Number.isFinite(least) ? Math.min(least * 2 ** failures, 60) : null;
}

function plan() {
  const seconds = pause();
  // A job that has ended says so by having no live part any more.
  if (seconds !== null) setTimeout(look, seconds * 1000);
}

async function look() {
  const open = document.querySelector("dialog[open]");
  if (document.hidden || open) return plan();
  try {
    const { response, document: page } = await fetchPage(location.href);
    if (!response.ok) throw new Error(String(response.status));
    failures = 0;
    replaceParts("[data-live]", page);
  } catch {
    failures = Math.min(failures + 1, 5);
  }
  const state = document.getElementById("live-state");
  if (state) {
    state.className = `livestate small soft ${failures ? "lost" : "live"}`;
    state.lastElementChild.textContent = failures ? "Not answering; trying again" : "Live";
  }
  plan();
}
