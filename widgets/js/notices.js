import { button, h } from "./dom.js";

// The lines that tell what a lab is doing and what went wrong.
export class Notices {
  constructor() {
    this.status = h("span", { role: "status", class: "ll-status" });
    this.state = h("span", { role: "status", class: "ll-status" });
    this.alert = h("p", { role: "alert", class: "ll-alert", hidden: true });
    this.kept = h("div", { role: "alert" });
    this.quiet = h(
      "p",
      { role: "alert", class: "ll-alert", hidden: true },
      "The kernel is not responding. If it was restarted, run this cell again; if it is busy, the lab continues when it is done.",
    );
  }

  problems(list, dismiss) {
    this.kept.replaceChildren(...list.map(({ number, text }) => h("p", { class: "ll-alert" }, `${text} `, button("Dismiss", () => dismiss(number)))));
  }

  say(text) {
    this.status.textContent = text;
  }

  complain(text) {
    this.alert.textContent = text;
    this.alert.hidden = !text;
  }

  get complaining() {
    return !this.alert.hidden;
  }

  silent(yes) {
    this.quiet.hidden = !yes;
  }

  progress(words) {
    this.state.textContent = words;
  }
}
