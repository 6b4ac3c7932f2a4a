import { h, labelled } from "./dom.js";

// A slider with its value beside it. Its movements until `release` or `reset` are one gesture, undone together.
export class Scrubber {
  constructor(channel, text, { low, high, step, start = 0, oninput, onchange = () => {} }) {
    this.channel = channel;
    this.start = start;
    this.current = null;
    this.input = h("input", { type: "range", min: low, max: high, step, value: start });
    this.output = h("output", {}, String(start));
    this.element = h("div", { class: "ll-scrubber" }, labelled(text, this.input), this.output);
    this.input.addEventListener("input", () => {
      this.begin();
      this.tell();
      oninput();
    });
    this.input.addEventListener("change", onchange);
  }

  get value() {
    return Number(this.input.value);
  }

  set value(value) {
    this.input.value = String(value);
    this.tell();
  }

  tell() {
    this.output.textContent = this.input.value;
  }

  get gesture() {
    return this.current;
  }

  // The current gesture, or a new one.
  begin() {
    this.current ??= this.channel.newGesture();
    return this.current;
  }

  release() {
    this.current = null;
  }

  reset() {
    this.release();
    this.value = this.start;
  }
}
