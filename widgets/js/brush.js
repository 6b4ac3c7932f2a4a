import { h, labelled, setOptions } from "./dom.js";
import { number } from "./numbers.js";
import { Positions } from "./positions.js";

const ADD = "add";
const MEAN = "mean";

// Paints on positions of a spatial latent: adds to one channel, or copies all channels from another latent.
export class Brush {
  constructor(lab) {
    this.lab = lab;
    this.gesture = null;
    const channels = lab.info.latent[0];
    const draw = () => this.positions.draw();
    this.what = h("select", {});
    this.channel = h("select", { onchange: draw });
    this.channel.append(...Array.from({ length: channels }, (_, c) => h("option", { value: String(c) }, String(c))));
    this.amount = h("input", { type: "range", min: -3, max: 3, step: 0.25, value: 1.5, oninput: () => this.tellAmount() });
    this.amountWords = h("output", {});
    this.size = h("input", { type: "range", min: 0, max: 4, step: 1, value: 0 });
    this.behind = h("select", { onchange: draw });
    setOptions(this.behind, [{ value: "picture", text: "the picture" }, { value: "channel", text: "the channel" }]);
    this.positions = new Positions(lab, {
      label: (y, x) => `Positions of the latent. Row ${y + 1}, column ${x + 1}, channel ${this.channel.value}: ${number(this.value(y, x))}. Enter paints.`,
      paint: (context, cw, ch) => this.paint(context, cw, ch),
      pressed: (y, x, first) => this.stroke(y, x, first),
      released: () => { this.gesture = null; },
    });
    this.element = h(
      "div",
      { class: "ll-columns" },
      this.positions.canvas,
      h(
        "div",
        { class: "ll-form ll-tall" },
        labelled("Brush", this.what),
        labelled("Channel", this.channel),
        h("div", { class: "ll-scrubber" }, labelled("Amount", this.amount), this.amountWords),
        labelled("Size", this.size),
        labelled("Show", this.behind),
        h("p", { class: "ll-hint" }, "Paint with the pointer, or move with the arrow keys and press Enter."),
      ),
    );
    this.tellAmount();
    this.fillSources();
    lab.on("shelf", () => this.fillSources());
    lab.on("space", () => this.fillSources());
  }

  fillSources() {
    setOptions(this.what, [
      { value: ADD, text: "add to the channel" },
      { value: MEAN, text: "copy the mean of the data" },
      ...this.lab.shelf.map(({ key, name }) => ({ value: key, text: `copy from ${name}` })),
    ]);
  }

  tellAmount() {
    const text = `${Number(this.amount.value) > 0 ? "+" : ""}${this.amount.value} σ`;
    this.amountWords.textContent = text;
    this.amount.setAttribute("aria-valuetext", text);
  }

  value(y, x) {
    const [, rows, columns] = this.lab.info.latent;
    return this.lab.grid?.[(Number(this.channel.value) * rows + y) * columns + x] ?? NaN;
  }

  // One standard deviation of the channel.
  get sigma() {
    const axis = this.lab.space?.axis(`channel ${this.channel.value}`);
    return axis ? (axis.high - axis.low) / 6 : 1;
  }

  stroke(y, x, first) {
    if (first || !this.gesture) this.gesture = this.lab.channel.newGesture();
    const radius = Number(this.size.value);
    const [, rows, columns] = this.lab.info.latent;
    const cells = [];
    for (let dy = -radius; dy <= radius; dy += 1) {
      for (let dx = -radius; dx <= radius; dx += 1) {
        const inside = dy * dy + dx * dx <= radius * radius + 0.5;
        const there = y + dy >= 0 && y + dy < rows && x + dx >= 0 && x + dx < columns;
        if (inside && there) cells.push([y + dy, x + dx, 1]);
      }
    }
    const paint = { cells };
    if (this.what.value === ADD) Object.assign(paint, { channel: Number(this.channel.value), amount: Number(this.amount.value) * this.sigma });
    else paint.from = this.what.value;
    this.lab.channel.edit([{ paint }], this.gesture);
  }

  paint(context, cw, ch) {
    const [, rows, columns] = this.lab.info.latent;
    const picture = this.lab.stage.decoded.canvas;
    if (this.behind.value === "picture" || !this.lab.grid) {
      context.drawImage(picture, 0, 0, cw * columns, ch * rows);
      return;
    }
    let most = 1e-6;
    for (let y = 0; y < rows; y += 1) for (let x = 0; x < columns; x += 1) most = Math.max(most, Math.abs(this.value(y, x)));
    for (let y = 0; y < rows; y += 1) {
      for (let x = 0; x < columns; x += 1) {
        const gray = Math.round(127.5 + (127.5 * this.value(y, x)) / most);
        context.fillStyle = `rgb(${gray},${gray},${gray})`;
        context.fillRect(x * cw, y * ch, cw + 1, ch + 1);
      }
    }
  }
}
