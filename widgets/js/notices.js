import { h } from "./dom.js";
import { iconButton } from "./icons.js";

// The lines that tell what a lab is doing and what went wrong.
export class Notices {
  constructor() {
    this.status = h("span", { role: "status", class: "ll-status" });
    this.words = h("span", {});
    this.alert = h("div", { role: "alert", class: "ll-alert", hidden: true }, this.words, iconButton("close", "Close", () => this.complain("")));
    this.quiet = h(
      "div",
      { role: "alert", class: "ll-alert", hidden: true },
      "The kernel is not responding. If it was restarted, run this cell again; if it is busy, the lab continues when it is done.",
    );
    this.kept = h("div", { role: "alert" });
    this.element = h("div", { class: "ll-alerts" }, this.quiet, this.kept, this.alert);
    this.busy = h("span", { role: "status", class: "ll-status" });
    this.said = h("div", { class: "ll-said" }, this.busy, this.status);
  }

  // Errors that stay until they are dismissed.
  problems(list, dismiss) {
    this.kept.replaceChildren(...list.map(({ number, text }) => h("div", { class: "ll-alert" }, h("span", {}, text), iconButton("close", "Dismiss", () => dismiss(number)))));
  }

  working(yes) {
    const words = yes ? "the kernel is working on it…" : "";
    if (this.busy.textContent !== words) this.busy.textContent = words;
  }

  say(text) {
    this.status.textContent = text;
  }

  complain(text) {
    this.words.textContent = text;
    this.alert.hidden = !text;
  }

  get complaining() {
    return !this.alert.hidden;
  }

  silent(yes) {
    this.quiet.hidden = !yes;
  }
}
