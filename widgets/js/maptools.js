import { h } from "./dom.js";
import { iconButton } from "./icons.js";

const TOOLS = [
  { key: "explore", label: "Explore: drag the ring" },
  { key: "pan", label: "Move the map (or drag with Shift)" },
  { key: "lasso", label: "Select images with a lasso" },
];

// The buttons on a map: what a drag does, how much is seen, and what is behind it.
export class MapTools {
  constructor({ magnify, reset, decode }) {
    this.chosen = "explore";
    this.buttons = TOOLS.map(({ key, label }) => iconButton(key, label, () => this.choose(key), { "data-tool": key, "aria-pressed": String(key === this.chosen) }));
    this.decode = iconButton("layers", "Decoded images behind the map", () => {
      this.decode.setAttribute("aria-pressed", String(!this.decodes));
      decode();
    }, { "data-tool": "decode", "aria-pressed": "false" });
    this.reset = iconButton("fit", "Show all images (0)", reset, { "data-tool": "reset" });
    this.element = h(
      "div",
      { class: "ll-map-tools", role: "toolbar", "aria-label": "Map" },
      ...this.buttons,
      h("span", { class: "ll-gap" }),
      iconButton("plus", "Magnify (+)", () => magnify(1.5), { "data-tool": "in" }),
      iconButton("minus", "Make smaller (−)", () => magnify(1 / 1.5), { "data-tool": "out" }),
      this.reset,
      h("span", { class: "ll-gap" }),
      this.decode,
    );
  }

  get decodes() {
    return this.decode.getAttribute("aria-pressed") === "true";
  }

  choose(key) {
    this.chosen = key;
    for (const element of this.buttons) element.setAttribute("aria-pressed", String(element.dataset.tool === key));
  }
}
