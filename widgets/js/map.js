import { sharpContext, themeColour } from "./canvas.js";
import { h, labelled, setOptions } from "./dom.js";
import { Lasso } from "./lasso.js";
import { Later } from "./later.js";
import { MapImages } from "./mapimages.js";
import { MapTools } from "./maptools.js";
import { drawRing } from "./marks.js";
import { clamp, number } from "./numbers.js";
import { DecodedPlane } from "./plane.js";
import { onDrag, pointIn } from "./pointer.js";
import { PlaneScale, paddedRange } from "./scales.js";
import { drawTicks } from "./ticks.js";
import { Viewport } from "./viewport.js";

const KEY_STEPS = 40; // arrow presses from one side to the other
const PLANE_PAUSE = 250; // ms without a change until the decoded images behind the map are asked for
const SCROLLING = 400; // ms during which a scroll that began elsewhere goes on over the map
const INVITATION = "Drag across the map: the picture follows. Double-click an image to open it.";

// The images at the places of their latents, and the current latent as a ring to drag.
export class LatentMap {
  constructor(lab) {
    this.lab = lab;
    this.x = h("select", { onchange: () => this.changedAxes() });
    this.y = h("select", { onchange: () => this.changedAxes() });
    this.colour = h("select", { onchange: () => this.draw() });
    this.plane = new DecodedPlane();
    this.view = new Viewport();
    this.lasso = new Lasso();
    this.tools = new MapTools({ magnify: (factor) => this.magnify(factor), reset: () => this.resetView(), decode: () => this.changedPlane() });
    this.canvas = h("canvas", {
      class: "ll-map",
      tabIndex: 0,
      role: "application",
      "aria-roledescription": "map",
      "aria-label": "Map of the latent space",
      onkeydown: (event) => this.key(event),
      onpointermove: (event) => this.hover(event),
      ondblclick: (event) => this.open(this.nearestTo(pointIn(this.canvas, event))),
    });
    this.ring = h("canvas", { class: "ll-ring", "aria-hidden": "true" }); // over the names and the legend as well
    this.images = new MapImages(lab, this.canvas);
    this.acrossName = h("span", { class: "ll-axis ll-axis-x", "aria-hidden": "true" });
    this.upName = h("span", { class: "ll-axis ll-axis-y", "aria-hidden": "true" });
    this.legend = h("div", { class: "ll-legend" });
    this.words = h("p", { class: "ll-hint ll-two-lines" }, INVITATION);
    this.element = h(
      "div",
      { class: "ll-map-page" },
      h(
        "div",
        { class: "ll-form" },
        labelled("Across", this.x),
        labelled("Up", this.y),
        labelled("Colour", this.colour),
      ),
      h("div", { class: "ll-map-frame" }, this.canvas, this.upName, this.acrossName, this.legend, this.tools.element, this.ring),
      this.words,
    );
    this.question = new Later(PLANE_PAUSE, () => this.askForPlane());
    this.gesture = null;
    this.own = new Set(); // gestures of this map, which leave the plane as it is
    this.scale = null; // of the last drawing
    this.held = null; // the coordinates last asked for by pointer or key
    this.moved = false; // whether the user has moved the ring
    this.drag = onDrag(this.canvas, (event, first) => this.dragged(event, first), () => this.released(), (event) => event.button < 2);
    this.listenToWheel();
    const observer = new ResizeObserver(() => this.resized());
    observer.observe(this.canvas);
    lab.onClose(() => observer.disconnect());
    lab.on("space", () => this.refill());
    lab.on("coordinates", () => this.draw());
    lab.on("theme", () => this.draw());
    lab.on("gallery", () => this.draw());
    lab.on("selection", () => this.draw());
    lab.on("tab:map", () => this.askForPlane());
    lab.on("gesture", (gesture) => { if (!this.own.has(gesture) || !this.independent) this.stale(); });
    lab.on("sheet:manifold", (sheet) => this.receive(sheet));
  }

  refill() {
    // Their details are on the map itself.
    const options = this.lab.space.options(this.lab.space.telling).map(({ value }) => ({ value, text: this.lab.space.axis(value).name }));
    for (const [at, select] of [this.x, this.y].entries()) {
      const fresh = select.options.length === 0;
      setOptions(select, options);
      if (fresh && options.length > at) select.value = options[at].value;
    }
    const labels = this.lab.info.labels.map(({ name }) => ({ value: name, text: name }));
    const unasked = this.colour.options.length === 0;
    setOptions(this.colour, [...labels, { value: "", text: "none" }]);
    if (unasked) this.colour.selectedIndex = 0;
    this.changedAxes();
  }

  changedAxes() {
    this.view.settle([this.x, this.y].map(({ value }) => this.range(value)));
    this.stale();
    this.draw();
  }

  get axes() {
    return [this.x.value, this.y.value];
  }

  get ready() {
    return this.axes.every((key) => this.lab.space?.axis(key));
  }

  // Whether a move along one axis leaves the coordinate of the other as it is.
  get independent() {
    const [a, b] = this.axes.map((key) => this.lab.space?.axis(key)?.group);
    return a === b && a !== "labels";
  }

  // The range of the images along an axis, or of its slider if they all have the same coordinate.
  range(key) {
    const { low, high } = this.lab.space.axis(key);
    return paddedRange(this.lab.space.column(key), low, high, 0.12);
  }

  // --- drawing ---

  resized() {
    this.draw();
    this.askSoon();
  }

  get size() {
    return [this.canvas.clientWidth, this.canvas.clientHeight];
  }

  draw() {
    const [width, height] = this.size;
    if (!this.ready || !width || !height) return; // hidden; drawn once it is shown
    this.scale = new PlaneScale(this.view.ranges, [width, height], 0);
    const context = sharpContext(this.canvas, width, height);
    context.clearRect(0, 0, width, height);
    if (this.tools.decodes) this.plane.draw(context, this.scale);
    const label = this.lab.info.labels.find(({ name }) => name === this.colour.value);
    const markers = this.images.draw(context, this.scale, this.axes, [width, height], this.view.zoom, label);
    this.legend.replaceChildren(...markers.legend());
    const [accent, background] = ["--ll-accent", "--ll-background"].map((name) => themeColour(this.canvas, name));
    this.lasso.draw(context, accent);
    const here = this.here;
    const over = sharpContext(this.ring, width, height);
    over.clearRect(0, 0, width, height);
    if (here) drawRing(over, this.scale.toPixels(...here), accent, background, [width, height]);
    this.tools.reset.disabled = this.view.isHome;
    this.nameAxes();
    drawTicks(context, this.scale, [width, height], this.free, themeColour(this.canvas, "--ll-text"), background);
    this.describe();
  }

  nameAxes() {
    const [across, up] = this.axes.map((key) => this.lab.space.axis(key));
    this.acrossName.replaceChildren(across.name, h("small", {}, ` · ${across.detail}`), " →");
    this.upName.replaceChildren("↑ ", up.name, h("small", {}, ` · ${up.detail}`));
  }

  // From where to where no words lie on the lower and on the left side, in pixels.
  get free() {
    const { legend, acrossName, upName } = this;
    const bottom = legend.offsetTop || this.size[1]; // there may be no legend
    return [[legend.offsetLeft + legend.offsetWidth, acrossName.offsetLeft], [upName.offsetTop + upName.offsetHeight, bottom]];
  }

  // --- the decoded images behind ---

  changedPlane() {
    this.stale();
    this.draw();
  }

  // The plane no longer goes through the current latent.
  stale() {
    this.plane.clear();
    this.askSoon();
  }

  askSoon() {
    if (this.tools.decodes) this.question.soon();
  }

  askForPlane() {
    this.question.cancel();
    if (!this.tools.decodes || !this.ready || !this.scale || !this.canvas.clientWidth) return;
    if (!this.lab.channel.idle) {
      this.askSoon();
      return;
    }
    const [, height, width] = this.lab.info.image;
    this.asked = DecodedPlane.request(this.x.value, this.y.value, this.view.ranges, this.size, width / height);
    this.lab.channel.ask(this.asked).catch(() => {});
  }

  receive(sheet) {
    if (sheet.axes.join() !== this.axes.join()) return; // the axes were changed meanwhile
    this.plane.receive(sheet);
    this.draw();
  }

  // --- what is seen ---

  magnify(factor, point) {
    const changed = this.view.magnify(factor, point);
    if (changed) this.changedView();
    return changed;
  }

  resetView() {
    this.view.reset();
    this.changedView();
  }

  changedView() {
    this.draw();
    this.askSoon();
  }

  // A scroll of the page that comes across the map goes on; one that begins here magnifies.
  listenToWheel() {
    let elsewhere = -Infinity;
    const outside = (event) => { if (event.target !== this.canvas) elsewhere = event.timeStamp; };
    window.addEventListener("wheel", outside, { passive: true, capture: true });
    this.lab.onClose(() => window.removeEventListener("wheel", outside, { capture: true }));
    this.canvas.addEventListener("wheel", (event) => {
      if (event.timeStamp - elsewhere < SCROLLING) elsewhere = event.timeStamp;
      else if (this.scale && this.magnify(Math.exp(-clamp(event.deltaY, -200, 200) / 300), this.scale.toCoordinates(...pointIn(this.canvas, event)))) event.preventDefault();
    }, { passive: false });
  }

  // --- moving ---

  get here() {
    if (this.drag.active && this.held) return this.held;
    const [x, y] = this.axes.map((key) => this.lab.coordinate(key));
    return x === undefined || y === undefined ? null : [x, y];
  }

  dragged(event, first) {
    if (!this.ready || !this.scale) return;
    const point = pointIn(this.canvas, event);
    if (first) {
      this.doing = event.shiftKey || event.button === 1 ? "pan" : this.tools.chosen;
      this.from = point;
      this.held = null;
      if (this.doing === "explore") this.begin();
      if (this.doing === "lasso") this.lasso.begin(point);
    }
    if (this.doing === "explore") this.move(...this.scale.toCoordinates(...point));
    else if (this.doing === "pan") {
      const [width, height] = this.size;
      this.view.pan((this.from[0] - point[0]) / width, (point[1] - this.from[1]) / height);
      this.from = point;
      this.changedView();
    } else {
      this.lasso.add(point);
      this.draw();
    }
  }

  released() {
    if (this.doing === "explore" && !this.independent) this.stale();
    this.gesture = null;
    if (this.doing !== "lasso") return;
    const { rows } = this.lab.space;
    const inside = this.images.places(this.scale, this.axes).flatMap((place, i) => (this.lasso.holds(place) ? [rows[i]] : []));
    this.lasso.clear();
    this.lab.select(inside);
    this.draw();
  }

  begin() {
    this.gesture = this.lab.channel.newGesture();
    this.own.add(this.gesture);
  }

  move(x, y) {
    this.held = [x, y];
    this.moved = true;
    const edits = [{ axis: this.x.value, value: x }];
    if (this.y.value !== this.x.value) edits.push({ axis: this.y.value, value: y });
    this.lab.expect(edits);
    this.lab.channel.edit(edits, this.gesture);
    this.draw();
  }

  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[event.key];
    const here = this.here;
    if (!here || !this.scale) return;
    const acts = {
      Enter: () => this.open(this.nearestTo(this.scale.toPixels(...here))),
      "+": () => this.magnify(1.5, here),
      "=": () => this.magnify(1.5, here),
      "-": () => this.magnify(1 / 1.5, here),
      0: () => this.resetView(),
      s: () => this.toggle(this.nearestTo(this.scale.toPixels(...here))),
      Escape: () => this.lab.select([]),
    };
    const act = acts[event.key];
    if (event.key === "s" && (event.ctrlKey || event.metaKey)) return;
    if (act) act();
    else if (steps && event.altKey) {
      this.view.pan(steps[0] / 8, steps[1] / 8);
      this.changedView();
    } else if (steps) {
      const far = event.shiftKey ? 5 : 1;
      this.begin();
      this.move(...this.scale.moved(here, steps.map((step) => far * step), KEY_STEPS));
      this.gesture = null;
    } else return;
    event.preventDefault();
    this.lab.say(this.words.textContent); // for screen readers, and only for keys: a drag would never stop talking
  }

  // --- images ---

  nearestTo(point) {
    return this.images.nearest(this.scale, this.axes, point);
  }

  hover(event) {
    if (!this.ready || !this.scale || this.drag.active) return;
    const { index, distance } = this.nearestTo(pointIn(this.canvas, event));
    const near = distance < Math.max(12, this.images.side(this.size, this.view.zoom) / 2);
    this.canvas.title = near ? this.lab.space.describeImage(index) : "";
  }

  open({ index }) {
    if (index >= 0) this.lab.act({ do: "pick", index: this.lab.space.rows[index] });
  }

  toggle({ index }) {
    const row = this.lab.space.rows[index];
    const before = this.lab.selection;
    this.lab.select(before.includes(row) ? before.filter((other) => other !== row) : [...before, row]);
  }

  describe() {
    const here = this.here;
    if (!here) return;
    const [across, up] = this.axes.map((key) => this.lab.space.axis(key).name);
    const words = `${across} ${number(here[0])}, ${up} ${number(here[1])}`;
    const nearest = this.lab.space.describeImage(this.nearestTo(this.scale.toPixels(...here)).index);
    this.canvas.setAttribute("aria-label", `Map of the latent space. At ${words}. Nearest image: ${nearest}`);
    const { length } = this.lab.selection;
    if (length) this.words.textContent = `${length} image${length > 1 ? "s" : ""} selected: lab.selection in Python. Escape clears.`;
    else this.words.textContent = this.moved ? `${words} · nearest: ${nearest}` : INVITATION;
  }
}
