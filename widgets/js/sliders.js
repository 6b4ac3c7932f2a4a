import { h, labelled, setOptions, uniqueId } from "./dom.js";
import { number } from "./numbers.js";

const STEPS = 240;
const NAMES = { dimensions: "Dimensions", channels: "Channels", directions: "Principal directions", labels: "Labels" };

// A slider for each axis of the latent space, the most informative axis first.
export class Sliders {
  constructor(lab) {
    this.lab = lab;
    this.rows = new Map(); // axis key -> { input, output, axis, gesture }
    this.group = h("select", { onchange: () => this.fill() });
    this.list = h("div", { class: "ll-sliders" });
    this.element = h("div", {}, labelled("Axes", this.group), this.list);
    lab.on("space", () => this.refill());
    lab.on("coordinates", () => this.update());
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
      title: "Double-click to return to the middle",
      oninput: () => this.moved(axis, Number(input.value)),
      onchange: () => this.released(axis),
      ondblclick: () => {
        this.moved(axis, (axis.low + axis.high) / 2);
        this.released(axis);
      },
    });
    const row = { input, output, axis, gesture: null };
    this.rows.set(axis.key, row);
    const label = h("label", { htmlFor: id }, axis.name, h("small", {}, axis.detail));
    return h("div", { class: "ll-slider" }, label, input, output);
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

  update() {
    for (const [key, row] of this.rows) {
      const value = this.lab.coordinate(key);
      if (value === undefined) continue;
      row.input.value = value;
      this.tell(row, value);
    }
  }

  tell(row, value) {
    const outside = value < row.axis.low || value > row.axis.high ? " (out of range)" : "";
    row.output.textContent = number(value);
    row.input.setAttribute("aria-valuetext", `${number(value)}${outside}, ${row.axis.detail}`);
  }
}
