import { sharpContext, themeColour } from "./canvas.js";
import { h } from "./dom.js";
import { clamp } from "./numbers.js";
import { fraction, onDrag } from "./pointer.js";

// The positions of a spatial latent on a canvas, one of them chosen by pointer or arrow keys. The owner draws the cells.
export class Positions {
  constructor(lab, { label, paint, pressed, released = () => {} }) {
    this.lab = lab;
    this.paint = paint; // (context, cellWidth, cellHeight)
    this.pressed = pressed; // (y, x, first): the pointer reached the cell, or Enter was pressed on it
    this.cursor = [0, 0];
    this.canvas = h("canvas", {
      class: "ll-positions",
      tabIndex: 0,
      role: "application",
      "aria-roledescription": "grid of positions",
      onkeydown: (event) => this.key(event),
    });
    this.label = label;
    this.last = null;
    onDrag(
      this.canvas,
      (event, first) => {
        const [fx, fy] = fraction(this.canvas, event);
        const [rows, columns] = this.shape;
        const [y, x] = [Math.min(rows - 1, Math.floor(fy * rows)), Math.min(columns - 1, Math.floor(fx * columns))];
        if (!first && this.last?.[0] === y && this.last?.[1] === x) return;
        this.last = [y, x];
        this.moveTo(y, x);
        this.pressed(y, x, first);
      },
      released,
    );
    const observer = new ResizeObserver(() => this.draw());
    observer.observe(this.canvas);
    lab.onClose(() => observer.disconnect());
    lab.on("picture", () => this.draw());
    lab.on("theme", () => this.draw());
  }

  get shape() {
    return this.lab.info.latent.slice(1);
  }

  moveTo(y, x) {
    this.cursor = [y, x];
    this.draw();
  }

  key(event) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (steps) {
      event.preventDefault();
      const [rows, columns] = this.shape;
      this.moveTo(clamp(this.cursor[0] + steps[0], 0, rows - 1), clamp(this.cursor[1] + steps[1], 0, columns - 1));
      this.lab.say(this.label(...this.cursor));
    }
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.pressed(...this.cursor, true);
    }
  }

  draw() {
    const [rows, columns] = this.shape;
    const width = this.canvas.clientWidth;
    if (!width) return; // hidden; drawn once it is shown
    const height = Math.round((width * rows) / columns);
    this.canvas.style.aspectRatio = `${columns} / ${rows}`;
    const context = sharpContext(this.canvas, width, height);
    context.clearRect(0, 0, width, height);
    context.imageSmoothingEnabled = false;
    const [cw, ch] = [width / columns, height / rows];
    this.paint(context, cw, ch);
    const [y, x] = this.cursor;
    for (const [line, name] of [[4, "--ll-background"], [2, "--ll-accent"]]) {
      context.lineWidth = line;
      context.strokeStyle = themeColour(this.canvas, name);
      context.strokeRect(x * cw, y * ch, cw, ch);
    }
    this.canvas.setAttribute("aria-label", this.label(y, x));
  }
}
