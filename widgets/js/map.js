import { axisOf, axisOptions } from "./sliders.js";
import { clamp, fraction, h, labelled, number, onDrag, setOptions, sharpContext, themeColour } from "./dom.js";

const MARGIN = 14; // CSS pixels around the points
const KEY_STEPS = 40; // arrow presses from one side to the other
const NEAR = 12; // CSS pixels within which a point is under the pointer
const PLANE_SIDE = 9;

// The images' latents in two coordinates, and the current one as a point to be dragged.
export class LatentMap {
  constructor(lab) {
    this.lab = lab;
    this.x = h("select", { onchange: () => this.changedAxes() });
    this.y = h("select", { onchange: () => this.changedAxes() });
    this.colour = h("select", { onchange: () => this.draw() });
    this.plane = h("input", { type: "checkbox", onchange: () => this.askForPlane() });
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
    this.pictures = []; // of the plane behind the points
    this.element = h(
      "div",
      {},
      h("div", { class: "ll-row" }, labelled("Across", this.x), labelled("Up", this.y), labelled("Colour", this.colour)),
      this.canvas,
      this.legend,
      this.words,
      h("div", { class: "ll-row" }, h("label", { class: "ll-check" }, this.plane, "Draw what the plane decodes to")),
      h("p", { class: "ll-hint" }, "Drag the ring, or move it with the arrow keys (Shift: further). Enter or a double click opens the nearest image."),
    );
    this.gesture = null;
    onDrag(this.canvas, (event, first) => this.dragged(event, first), () => { this.gesture = null; });
    const observer = new ResizeObserver(() => this.draw());
    observer.observe(this.canvas);
    lab.cleanups.push(() => observer.disconnect());
    lab.on("space", () => this.refill());
    lab.on("coordinates", () => this.draw());
    lab.on("theme", () => this.draw());
    lab.on("sheet:manifold", (sheet) => this.receivePlane(sheet));
  }

  refill() {
    const options = axisOptions(this.lab, "directions");
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
    this.pictures = [];
    if (this.plane.checked) this.askForPlane();
    this.draw();
  }

  // Low and high of an axis: what the data and the slider have, and the current latent.
  range(key) {
    const axis = axisOf(this.lab, key);
    const values = this.lab.column(key);
    let [low, high] = [Infinity, -Infinity];
    for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
    if (!(high > low)) [low, high] = [axis.low, axis.high];
    const pad = 0.08 * (high - low);
    return [low - pad, high + pad];
  }

  get ready() {
    return this.lab.space && axisOf(this.lab, this.x.value) && axisOf(this.lab, this.y.value);
  }

  get size() {
    const width = this.canvas.clientWidth || 320;
    return [width, Math.round(clamp(width * 0.7, 180, 420))];
  }

  // From coordinates to CSS pixels.
  place(x, y) {
    const [width, height] = this.size;
    const [[left, right], [bottom, top]] = this.ranges;
    return [
      MARGIN + ((x - left) / (right - left)) * (width - 2 * MARGIN),
      MARGIN + ((top - y) / (top - bottom)) * (height - 2 * MARGIN),
    ];
  }

  draw() {
    if (!this.ready || !this.canvas.clientWidth) return; // not shown; it is drawn when it is
    this.ranges = [this.range(this.x.value), this.range(this.y.value)];
    const [width, height] = this.size;
    this.canvas.style.height = `${height}px`;
    const context = sharpContext(this.canvas, width, height);
    context.clearRect(0, 0, width, height);
    this.drawPlane(context, width, height);
    this.drawPoints(context);
    const here = this.here;
    if (here) drawRing(context, this.place(...here), themeColour(this.canvas, "--ll-accent"), themeColour(this.canvas, "--ll-background"));
    this.describe();
  }

  get here() {
    if (this.canvas.dataset.dragging !== undefined && this.dragging) return this.dragging;
    const [x, y] = [this.lab.coordinate(this.x.value), this.lab.coordinate(this.y.value)];
    return x === undefined || y === undefined ? null : [x, y];
  }

  drawPoints(context) {
    const [xs, ys] = [this.lab.column(this.x.value), this.lab.column(this.y.value)];
    const scale = colourScale(this.lab.info.labels.find(({ name }) => name === this.colour.value), this.lab.space.rows, this.canvas);
    context.lineWidth = 1;
    context.strokeStyle = themeColour(this.canvas, "--ll-background");
    for (let i = 0; i < xs.length; i += 1) {
      const { colour, shape } = scale.of(i);
      context.fillStyle = colour;
      drawMarker(context, this.place(xs[i], ys[i]), shape);
    }
    this.legend.replaceChildren(...scale.legend());
  }

  // --- the plane of decoded pictures ---

  askForPlane() {
    this.pictures = [];
    if (!this.plane.checked || !this.ready) {
      this.draw();
      return;
    }
    const ask = { do: "manifold", x: this.x.value, y: this.y.value, ranges: this.ranges, n: PLANE_SIDE };
    this.lab.channel.ask(ask).catch(() => {});
  }

  receivePlane(sheet) {
    if (sheet.first === 0) this.pictures = [];
    this.pictures.push(...sheet.pictures);
    if (sheet.first + sheet.pictures.length === sheet.total) this.draw();
  }

  drawPlane(context, width, height) {
    if (!this.plane.checked || this.pictures.length < PLANE_SIDE ** 2) return;
    const [w, high] = [(width - 2 * MARGIN) / PLANE_SIDE, (height - 2 * MARGIN) / PLANE_SIDE];
    const tile = document.createElement("canvas");
    context.globalAlpha = 0.75;
    this.pictures.forEach((picture, i) => {
      Object.assign(tile, { width: picture.width, height: picture.height });
      tile.getContext("2d").putImageData(picture, 0, 0);
      const scale = Math.min(w / tile.width, high / tile.height);
      const [across, down] = [tile.width * scale, tile.height * scale];
      const left = MARGIN + (i % PLANE_SIDE) * w + (w - across) / 2;
      context.drawImage(tile, left, MARGIN + Math.floor(i / PLANE_SIDE) * high + (high - down) / 2, across, down);
    });
    context.globalAlpha = 1;
  }

  // --- moving ---

  dragged(event, first) {
    if (!this.ready) return;
    if (first) this.gesture = this.lab.channel.newGesture();
    const [width, height] = this.size;
    const [fx, fy] = fraction(this.canvas, event);
    const [[left, right], [bottom, top]] = this.ranges;
    const x = left + clamp((fx * width - MARGIN) / (width - 2 * MARGIN), 0, 1) * (right - left);
    const y = top - clamp((fy * height - MARGIN) / (height - 2 * MARGIN), 0, 1) * (top - bottom);
    this.move(x, y);
  }

  move(x, y) {
    this.dragging = [x, y];
    const edits = [{ axis: this.x.value, value: x }];
    if (this.y.value !== this.x.value) edits.push({ axis: this.y.value, value: y });
    this.lab.expect(edits);
    this.lab.channel.edit(edits, this.gesture ?? this.lab.channel.newGesture());
    this.draw();
  }

  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[event.key];
    if (event.key === "Enter") this.open(this.nearestTo(this.place(...this.here)));
    if (!steps || !this.here) return;
    event.preventDefault();
    const far = event.shiftKey ? 5 : 1;
    const [x, y] = this.here.map((value, i) => {
      const [low, high] = this.ranges[i];
      return clamp(value + (steps[i] * far * (high - low)) / KEY_STEPS, low, high);
    });
    this.move(x, y);
    this.lab.say(this.words.textContent); // aloud for keys only: a drag would never stop talking
  }

  // --- points ---

  nearestTo([left, top]) {
    const [xs, ys] = [this.lab.column(this.x.value), this.lab.column(this.y.value)];
    let [best, least] = [-1, Infinity];
    for (let i = 0; i < xs.length; i += 1) {
      const [x, y] = this.place(xs[i], ys[i]);
      const distance = Math.hypot(x - left, y - top);
      if (distance < least) [best, least] = [i, distance];
    }
    return { index: best, distance: least };
  }

  nearest(event) {
    const box = this.canvas.getBoundingClientRect();
    return this.nearestTo([event.clientX - box.left, event.clientY - box.top]);
  }

  hover(event) {
    if (!this.ready || this.canvas.dataset.dragging !== undefined) return;
    const { index, distance } = this.nearest(event);
    this.canvas.title = distance < NEAR ? this.lab.imageWords(index) : "";
  }

  open({ index }) {
    if (index >= 0) this.lab.act({ do: "pick", index: this.lab.space.rows[index] });
  }

  describe() {
    const here = this.here;
    if (!here) return;
    const words = `${this.x.value} ${number(here[0])}, ${this.y.value} ${number(here[1])}`;
    const { index } = this.nearestTo(this.place(...here));
    this.canvas.setAttribute("aria-label", `Map of the latent space. At ${words}. Nearest image: ${this.lab.imageWords(index)}`);
    this.words.textContent = `${words} · nearest: ${this.lab.imageWords(index)}`;
  }
}

// --- marks: a category is told by its shape too, a quantity by lightness ---

const SHAPES = ["disc", "square", "triangle", "diamond", "cross", "plus", "down", "bar"];
// Okabe and Ito's colours, told apart by most colour-blind people.
const CATEGORY_COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b0a000", "#7f7f7f"];
// Viridis at six places: lightness grows all the way.
const VIRIDIS = [[68, 1, 84], [65, 68, 135], [42, 120, 142], [34, 168, 132], [122, 209, 81], [253, 231, 37]];

function viridis(t) {
  const at = clamp(t, 0, 1) * (VIRIDIS.length - 1);
  const i = Math.min(VIRIDIS.length - 2, Math.floor(at));
  const mixed = VIRIDIS[i].map((low, k) => Math.round(low + (at - i) * (VIRIDIS[i + 1][k] - low)));
  return `rgb(${mixed.join(",")})`;
}

function colourScale(label, rows, element) {
  if (!label) return { of: () => ({ colour: themeColour(element, "--ll-muted"), shape: "disc" }), legend: () => [] };
  const { names, values, name } = label;
  if (names) {
    const kind = (k) => ({ colour: CATEGORY_COLOURS[k % CATEGORY_COLOURS.length], shape: SHAPES[(k + Math.floor(k / SHAPES.length)) % SHAPES.length] });
    return { of: (i) => kind(values[rows[i]]), legend: () => names.map((text, k) => legendEntry(kind(k), text)) };
  }
  const known = values.filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const bar = () => {
    const stops = [0, 0.2, 0.4, 0.6, 0.8, 1].map(viridis).join(",");
    return [h("span", {}, `${name}: ${number(low)}`), h("span", { class: "ll-ramp", style: `background:linear-gradient(90deg,${stops})` }), h("span", {}, number(high))];
  };
  const unknown = { colour: themeColour(element, "--ll-muted"), shape: "cross" };
  const of = (i) => {
    const value = values[rows[i]];
    return value === null ? unknown : { colour: viridis((value - low) / (high - low || 1)), shape: "disc" };
  };
  return { of, legend: bar };
}

function legendEntry({ colour, shape }, text) {
  const canvas = h("canvas", { "aria-hidden": "true", style: "width:14px;height:14px" });
  const context = sharpContext(canvas, 14, 14);
  context.fillStyle = colour;
  context.strokeStyle = "transparent";
  drawMarker(context, [7, 7], shape);
  return h("span", {}, canvas, text);
}

function drawMarker(context, [x, y], shape, r = 4) {
  const polygon = (...points) => {
    points.forEach(([dx, dy], i) => context[i ? "lineTo" : "moveTo"](x + dx * r, y + dy * r));
    context.closePath();
  };
  context.beginPath();
  if (shape === "disc") context.arc(x, y, r, 0, 2 * Math.PI);
  else if (shape === "square") context.rect(x - 0.85 * r, y - 0.85 * r, 1.7 * r, 1.7 * r);
  else if (shape === "triangle") polygon([0, -1.1], [1, 0.8], [-1, 0.8]);
  else if (shape === "down") polygon([0, 1.1], [1, -0.8], [-1, -0.8]);
  else if (shape === "diamond") polygon([0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]);
  else if (shape === "bar") context.rect(x - 1.2 * r, y - 0.4 * r, 2.4 * r, 0.8 * r);
  else if (shape === "plus") polygon([-0.35, -1.1], [0.35, -1.1], [0.35, -0.35], [1.1, -0.35], [1.1, 0.35], [0.35, 0.35], [0.35, 1.1], [-0.35, 1.1], [-0.35, 0.35], [-1.1, 0.35], [-1.1, -0.35], [-0.35, -0.35]);
  else polygon([-1.1, -0.7], [-0.7, -1.1], [0, -0.4], [0.7, -1.1], [1.1, -0.7], [0.4, 0], [1.1, 0.7], [0.7, 1.1], [0, 0.4], [-0.7, 1.1], [-1.1, 0.7], [-0.4, 0]);
  context.fill();
  context.stroke();
}

function drawRing(context, [x, y], colour, around) {
  for (const [width, stroke] of [[5, around], [2.5, colour]]) {
    context.beginPath();
    context.arc(x, y, 9, 0, 2 * Math.PI);
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + 5 * dx, y + 5 * dy);
      context.lineTo(x + 13 * dx, y + 13 * dy);
    }
    context.lineWidth = width;
    context.strokeStyle = stroke;
    context.stroke();
  }
}
