import { h, labelled, setOptions, uniqueId } from "./dom.js";
import { Ends } from "./ends.js";
import { iconButton } from "./icons.js";
import { clamp, number } from "./numbers.js";

const STEPS = 240;
const NAMES = { dimensions: "Dimensions", channels: "Channels", directions: "Principal directions", labels: "Labels" };

// A slider for each axis of the latent space, the most informative axis first: between what its ends decode to, with a
// tick at the encoder's value.
export class Sliders {
  constructor(lab) {
    this.lab = lab;
    this.rows = new Map(); // axis key -> { element, input, output, tick, back, axis, gesture }
    this.group = h("select", { onchange: () => this.fill() });
    this.list = h("div", { class: "ll-sliders" });
    this.element = h("div", { class: "ll-fill" }, h("div", { class: "ll-form" }, labelled("Axes", this.group)), this.list);
    this.ends = new Ends(lab, () => this.seen());
    this.list.addEventListener("scroll", () => this.ends.askSoon());
    lab.on("space", () => this.refill());
    lab.on("coordinates", () => this.update());
    // The encoder's value may be another; a slider that is moved stays where its user has put it.
    lab.on("picture", () => { for (const row of this.rows.values()) this.tell(row, Number(row.input.value)); });
  }

  refill() {
    const groups = [...new Set(this.lab.space.axes.map((axis) => axis.group))];
    setOptions(this.group, groups.map((value) => ({ value, text: NAMES[value] })));
    this.fill();
  }

  fill() {
    this.rows.clear();
    const axes = this.lab.space.axes.filter((axis) => axis.group === this.group.value);
    this.list.replaceChildren(...axes.map((axis) => this.row(axis)));
    this.update();
    this.ends.askSoon();
  }

  // The axes whose rows are in view.
  seen() {
    const box = this.list.getBoundingClientRect();
    return [...this.rows].filter(([, { element }]) => {
      const { top, bottom } = element.getBoundingClientRect();
      return bottom > box.top && top < box.bottom;
    }).map(([key]) => key);
  }

  row(axis) {
    const id = uniqueId("slider");
    const output = h("output", { htmlFor: id });
    const input = h("input", {
      type: "range",
      id,
      min: axis.low,
      max: axis.high,
      step: (axis.high - axis.low) / STEPS,
      "data-axis": axis.key,
      oninput: () => this.moved(axis, Number(input.value)),
      onchange: () => this.released(axis),
      ondblclick: () => this.reset(axis),
    });
    const tick = h("span", { class: "ll-tick" });
    const back = iconButton("reset", `Reset ${axis.name}`, () => this.reset(axis), { class: "ll-button ll-square ll-quiet" });
    const [low, high] = this.ends.of(axis.key);
    const label = h("label", { htmlFor: id, title: `${axis.name}, ${axis.detail}` }, h("span", {}, axis.name), h("small", {}, axis.detail));
    const element = h("div", { class: "ll-slider" }, label, low, h("span", { class: "ll-track" }, tick, input), high, output, back);
    this.rows.set(axis.key, { element, input, output, tick, back, axis, gesture: null });
    return element;
  }

  moved(axis, value) {
    const row = this.rows.get(axis.key);
    row.gesture ??= this.lab.channel.newGesture();
    row.input.value = value;
    this.tell(row, value);
    this.lab.channel.edit([{ axis: axis.key, value }], row.gesture);
  }

  released(axis) {
    this.rows.get(axis.key).gesture = null;
  }

  // Back to the encoder's value, or to the middle for a latent that was not encoded.
  reset(axis) {
    this.moved(axis, this.home(axis) ?? (axis.low + axis.high) / 2);
    this.released(axis);
  }

  home(axis) {
    return this.lab.reference[this.lab.space.indexOf(axis.key)];
  }

  update() {
    if (!this.lab.space) return;
    for (const [key, row] of this.rows) {
      const value = this.lab.coordinate(key);
      if (value === undefined) continue;
      row.input.value = value;
      this.tell(row, value);
    }
  }

  tell(row, value) {
    const { axis, tick, back } = row;
    const outside = value < axis.low || value > axis.high ? " (out of range)" : "";
    row.output.textContent = number(value);
    row.input.setAttribute("aria-valuetext", `${number(value)}${outside}, ${axis.detail}`);
    const home = this.home(axis);
    const share = (home - axis.low) / (axis.high - axis.low);
    tick.hidden = home === undefined;
    tick.style.setProperty("--at", String(clamp(share, 0, 1)));
    const words = home === undefined ? `Reset ${axis.name} to the middle` : `Reset ${axis.name} to the encoder's ${number(home)}`;
    back.title = words;
    back.disabled = home !== undefined && Math.abs(value - home) < (axis.high - axis.low) / STEPS / 2;
  }
}
