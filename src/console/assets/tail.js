// The live tail: inserts new rows, which the server renders and sends as events, at the top of the table.
import { announce } from "./page.js";

const MAX_ROWS = 500;

export function followTail() {
  const button = document.querySelector("[data-tail]");
  if (!button) return;
  button.hidden = false;
  const tail = new Tail(button);
  button.addEventListener("click", () => tail.toggle());
  if (button.dataset.on !== undefined) tail.begin();
}

class Tail {
  constructor(button) {
    this.button = button;
    this.source = null;
  }

  toggle() {
    if (this.source) this.end();
    else this.begin();
  }

  begin() {
    this.source = new EventSource(this.button.dataset.tail);
    this.source.addEventListener("rows", (event) => this.insertRows(event.data));
    this.source.addEventListener("open", () => this.showState("live", "Live"));
    this.source.addEventListener("problem", (event) => this.showState("lost", event.data));
    this.source.addEventListener("error", () => this.connectionLost());
    this.button.setAttribute("aria-pressed", "true");
    this.showState("lost", "Connecting");
  }

  end() {
    this.source.close();
    this.source = null;
    this.button.setAttribute("aria-pressed", "false");
    this.showState("", "Live");
  }

  /** EventSource reconnects by itself, unless the server has rejected the request. */
  connectionLost() {
    if (this.source.readyState === EventSource.CLOSED) this.showState("lost", "Stopped: reload the page");
    else this.showState("lost", "Reconnecting");
  }

  showState(state, text) {
    this.button.classList.remove("live", "lost");
    if (state) this.button.classList.add(state);
    this.button.lastElementChild.textContent = text;
  }

  insertRows(html) {
    const holder = document.createElement("template");
    holder.innerHTML = `<table><tbody>${html}</tbody></table>`;
    const body = document.querySelector("#list tbody");
    if (!body) return this.reloadPage();
    let count = 0;
    for (const row of [...holder.content.querySelectorAll("tr")]) {
      if (document.getElementById(row.id)) continue;
      row.classList.add("fresh");
      body.prepend(row);
      count += 1;
    }
    while (body.rows.length > MAX_ROWS) body.lastElementChild.remove();
    if (count) announce(count === 1 ? "One new execution." : `${count} new executions.`);
  }

  /** An empty list has no table for the rows. Loads the page again, with the live tail on. */
  reloadPage() {
    this.source.close();
    const url = new URL(location.href);
    url.searchParams.set("live", "on");
    location.replace(url);
  }
}
