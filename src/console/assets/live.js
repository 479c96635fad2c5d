// Reloads the parts of a page that have data-live, at the interval in seconds that the attribute gives. A hidden page,
// or one with an open dialog, is not reloaded.
import { fetchPage, replaceParts } from "./page.js";

let failures = 0;

export function followLive() {
  if (!document.querySelector("[data-live]")) return;
  document.getElementById("live-state")?.removeAttribute("hidden");
  scheduleReload();
}

/** Seconds until the next reload: the shortest interval on the page, doubled for each failure, at most 60. */
function reloadDelay() {
  const intervals = [...document.querySelectorAll("[data-live]")].map((part) => Number(part.dataset.live));
  const shortest = Math.min(...intervals.filter((seconds) => seconds > 0));
  return Number.isFinite(shortest) ? Math.min(shortest * 2 ** failures, 60) : null;
}

function scheduleReload() {
  const seconds = reloadDelay();
  // The page of a job that has ended has no live part any more, so reloading stops.
  if (seconds !== null) setTimeout(reload, seconds * 1000);
}

async function reload() {
  const open = document.querySelector("dialog[open]");
  if (document.hidden || open) return scheduleReload();
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
    state.lastElementChild.textContent = failures ? "No answer; trying again" : "Live";
  }
  scheduleReload();
}
