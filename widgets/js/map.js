import { sharpContext, themeColour } from "./canvas.js";
import { h, labelled, setOptions } from "./dom.js";
import { drawMarker, drawRing, markersOf } from "./marks.js";
import { clamp, number } from "./numbers.js";
import { DecodedPlane } from "./plane.js";
import { onDrag, pointIn } from "./pointer.js";
import { PlaneScale, paddedRange } from "./scales.js";

const MARGIN = 14; // CSS pixels around the points
const KEY_STEPS = 40; // arrow presses from one side to the other
const NEAR = 12; // CSS pixels from the pointer within which a point counts as hovered

// The latents of the images in two coordinates, and the current latent as a ring to drag.
export class LatentMap {
  constructor(lab) {
    this.lab = lab;
    this.x = h("select", { onchange: () => this.changedAxes() });
    this.y = h("select", { onchange: () => this.changedAxes() });
    this.colour = h("select", { onchange: () => this.draw() });
    this.showPlane = h("input", { type: "checkbox", onchange: () => this.askForPlane() });
    this.plane = new DecodedPlane();
    this.canvas = h("canvas", {
      class: "ll-map",
      tabIndex: 0,
      role: "application",
      "aria-roledescription": "map",
      onkeydown: (event) => this.key(event),
      onpointermove: (event) => this.hover(event),
      ondblclick: (event) => this.open(this.nearest(event)),
    });
    this.words = h("p", { class: "ll-hint" });
    this.legend = h("div", { class: "ll-legend" });
    this.element = h(
      "div",
      {},
      h("div", { class: "ll-row" }, labelled("Across", this.x), labelled("Up", this.y), labelled("Colour", this.colour)),
      this.canvas,
      this.legend,
      this.words,
      h("div", { class: "ll-row" }, h("label", { class: "ll-check" }, this.showPlane, "Show decoded images behind the points")),
      h("p", { class: "ll-hint" }, "Drag the ring, or move it with the arrow keys (with Shift: further). Enter or a double-click opens the nearest image."),
    );
    this.gesture = null;
    this.scale = null; // of the last drawing
    this.held = null; // the coordinates last asked for by pointer or key
    this.drag = onDrag(this.canvas, (event, first) => this.dragged(event, first), () => { this.gesture = null; });
    const observer = new ResizeObserver(() => this.draw());
    observer.observe(this.canvas);
    lab.onClose(() => observer.disconnect());
    lab.on("space", () => this.refill());
    lab.on("coordinates", () => this.draw());
    lab.on("theme", () => this.draw());
    lab.on("sheet:manifold", (sheet) => { if (this.plane.receive(sheet)) this.draw(); });
  }

  refill() {
    const options = this.lab.space.options("directions");
    for (const [select, at] of [[this.x, 0], [this.y, 1]]) {
      const fresh = select.options.length === 0;
      setOptions(select, options);
      if (fresh && options.length > at) select.value = options[at].value;
    }
    const labels = this.lab.info.labels.map(({ name }) => ({ value: name, text: name }));
    const unasked = this.colour.options.length === 0;
    setOptions(this.colour, [...labels, { value: "", text: "nothing" }]);
    if (unasked) this.colour.selectedIndex = 0;
    this.draw();
  }

  changedAxes() {
    this.plane.clear();
    if (this.showPlane.checked) this.askForPlane();
    this.draw();
  }

  get ready() {
    return this.lab.space?.axis(this.x.value) && this.lab.space.axis(this.y.value);
  }

  get size() {
    const width = this.canvas.clientWidth || 320;
    return [width, Math.round(clamp(width * 0.7, 180, 420))];
  }

  // The range of the images along an axis, or of its slider if they all have the same coordinate.
  range(key) {
    const { low, high } = this.lab.space.axis(key);
    return paddedRange(this.lab.space.column(key), low, high);
  }

  // --- drawing ---

  draw() {
    if (!this.ready || !this.canvas.clientWidth) return; // hidden; drawn once it is shown
    const [width, height] = this.size;
    this.scale = new PlaneScale([this.range(this.x.value), this.range(this.y.value)], [width, height], MARGIN);
    this.canvas.style.height = `${height}px`;
    const context = sharpContext(this.canvas, width, height);
    context.clearRect(0, 0, width, height);
    if (this.showPlane.checked) this.plane.draw(context, width, height, MARGIN);
    this.drawPoints(context);
    const here = this.here;
    const [accent, background] = ["--ll-accent", "--ll-background"].map((name) => themeColour(this.canvas, name));
    if (here) drawRing(context, this.scale.toPixels(...here), accent, background);
    this.describe();
  }

  drawPoints(context) {
    const [xs, ys] = [this.lab.space.column(this.x.value), this.lab.space.column(this.y.value)];
    const label = this.lab.info.labels.find(({ name }) => name === this.colour.value);
    const markers = markersOf(label, this.lab.space.rows, this.canvas);
    context.lineWidth = 1;
    context.strokeStyle = themeColour(this.canvas, "--ll-background");
    for (let i = 0; i < xs.length; i += 1) {
      const { colour, shape } = markers.of(i);
      context.fillStyle = colour;
      drawMarker(context, this.scale.toPixels(xs[i], ys[i]), shape);
    }
    this.legend.replaceChildren(...markers.legend());
  }

  askForPlane() {
    this.plane.clear();
    if (!this.showPlane.checked || !this.ready || !this.scale) {
      this.draw();
      return;
    }
    this.lab.channel.ask(DecodedPlane.request(this.x.value, this.y.value, this.scale.ranges)).catch(() => {});
  }

  // --- moving ---

  get here() {
    if (this.drag.active && this.held) return this.held;
    const [x, y] = [this.lab.coordinate(this.x.value), this.lab.coordinate(this.y.value)];
    return x === undefined || y === undefined ? null : [x, y];
  }

  dragged(event, first) {
    if (!this.ready) return;
    if (first) this.gesture = this.lab.channel.newGesture();
    this.move(...this.scale.toCoordinates(...pointIn(this.canvas, event)));
  }

  move(x, y) {
    this.held = [x, y];
    const edits = [{ axis: this.x.value, value: x }];
    if (this.y.value !== this.x.value) edits.push({ axis: this.y.value, value: y });
    this.lab.expect(edits);
    this.lab.channel.edit(edits, this.gesture ?? this.lab.channel.newGesture());
    this.draw();
  }

  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[event.key];
    const here = this.here;
    if (!here || !this.scale) return;
    if (event.key === "Enter") this.open(this.nearestTo(this.scale.toPixels(...here)));
    if (!steps) return;
    event.preventDefault();
    const far = event.shiftKey ? 5 : 1;
    this.move(...this.scale.moved(here, steps.map((step) => far * step), KEY_STEPS));
    this.lab.say(this.words.textContent); // for screen readers, and only for keys: a drag would never stop talking
  }

  // --- points ---

  nearestTo([left, top]) {
    const [xs, ys] = [this.lab.space.column(this.x.value), this.lab.space.column(this.y.value)];
    let [best, least] = [-1, Infinity];
    for (let i = 0; i < xs.length; i += 1) {
      const [x, y] = this.scale.toPixels(xs[i], ys[i]);
      const distance = Math.hypot(x - left, y - top);
      if (distance < least) [best, least] = [i, distance];
    }
    return { index: best, distance: least };
  }

  nearest(event) {
    return this.nearestTo(pointIn(this.canvas, event));
  }

  hover(event) {
    if (!this.ready || !this.scale || this.drag.active) return;
    const { index, distance } = this.nearest(event);
    this.canvas.title = distance < NEAR ? this.lab.space.describeImage(index) : "";
  }

  open({ index }) {
    if (index >= 0) this.lab.act({ do: "pick", index: this.lab.space.rows[index] });
  }

  describe() {
    const here = this.here;
    if (!here) return;
    const words = `${this.x.value} ${number(here[0])}, ${this.y.value} ${number(here[1])}`;
    const { index } = this.nearestTo(this.scale.toPixels(...here));
    this.canvas.setAttribute("aria-label", `Map of the latent space. At ${words}. Nearest image: ${this.lab.space.describeImage(index)}`);
    this.words.textContent = `${words} · nearest: ${this.lab.space.describeImage(index)}`;
  }
}
