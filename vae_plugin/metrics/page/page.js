// The controls of the page: they change what is shown, and `show` draws it.

const find = (id) => document.getElementById(id);
const data = JSON.parse(find("data").textContent);
const names = ["original", ...data.models.map((model) => model.name)];
const gains = [1, 2, 4, 8, 16, 32];
const modes = [...find("mode").options].map((option) => option.value);
const view = new View();
const state = { image: -1, left: 0, right: 1, mode: "wipe", gain: 4 };
let pictures = []; // of the image that is shown: the original, and the reconstruction of each model
let shownDifferences = { key: "", canvas: null };

function element(tag, text = "", properties = {}) {
  return Object.assign(document.createElement(tag), { textContent: text }, properties);
}

/** What is known of a picture: its name, and how far from the original it is. */
function labelOf(picture) {
  const image = data.images[state.image];
  return picture ? `${names[picture]} · ${image.psnr[picture - 1].toFixed(2)} dB · SSIM ${image.ssim[picture - 1].toFixed(4)}` : names[0];
}

function differences() {
  const key = [state.image, state.left, state.right, state.gain, state.mode].join();
  if (shownDifferences.key !== key) {
    const canvas = differenceOf(pictures[state.left], pictures[state.right], state.gain, state.mode === "signed");
    shownDifferences = { key, canvas };
  }
  return shownDifferences.canvas;
}

function show() {
  if (!pictures.length) return;
  const [canvas, wipes] = [find("canvas"), state.mode === "wipe"];
  view.draw(canvas, wipes ? pictures[state.left] : differences(), wipes ? pictures[state.right] : null);
  const ratio = canvas.width / (canvas.clientWidth || 1);
  const divider = find("divider");
  divider.hidden = !wipes;
  divider.style.left = `${view.wipeAt / ratio}px`;
  divider.setAttribute("aria-valuenow", Math.round(100 * view.wipe));
  divider.setAttribute("aria-valuetext", `${Math.round(100 * view.wipe)} % ${names[state.left]}, then ${names[state.right]}`);
  find("left").value = state.left;
  find("right").value = state.right;
  find("mode").value = state.mode;
  find("gain").value = state.gain;
  find("amplification").hidden = find("scale").hidden = wipes;
  find("zoom").textContent = view.zoom < 1 ? `${Math.round(100 * view.zoom)} %` : `${view.zoom}:1`;
  find("left-label").textContent = wipes ? labelOf(state.left) : `${names[state.right]} − ${names[state.left]}`;
  find("right-label").textContent = wipes ? labelOf(state.right) : `× ${state.gain}`;
  canvas.setAttribute("aria-label", wipes
    ? `${labelOf(state.left)} on the left of the wipe, ${labelOf(state.right)} on the right`
    : `${state.mode} difference of ${names[state.right]} and ${names[state.left]}, amplified ${state.gain} times`);
  if (!wipes) drawScale();
}

/** The colours of the differences, and the levels of which they are. */
function drawScale() {
  const signed = state.mode === "signed";
  const end = Math.round((signed ? 127 : 255) / state.gain);
  const context = find("ramp").getContext("2d");
  const ramp = context.createImageData(256, 1);
  for (let x = 0; x < 256; x++) ramp.data.set([x, x, x, 255], 4 * x);
  context.putImageData(ramp, 0, 0);
  find("scale-text").textContent = signed
    ? `right − left, each channel: black −${end}, gray 0, white +${end} of 255 levels, or beyond (× ${state.gain})`
    : `|right − left|, each channel: black 0, full ${end} of 255 levels, or more (× ${state.gain})`;
}

function resize() {
  const canvas = find("canvas");
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  const image = data.images[Math.max(0, state.image)];
  view.resize([canvas.width, canvas.height], [image.width, image.height]);
  show();
}

async function choose(number) {
  const image = data.images[number];
  state.image = number;
  const found = await Promise.all(image.pictures.map(decoded));
  if (state.image !== number) return; // another was chosen meanwhile
  pictures = found;
  shownDifferences.key = "";
  [...find("images").children].forEach((button, i) => button.setAttribute("aria-pressed", i === number));
  find("images").children[number].scrollIntoView({ block: "nearest", inline: "nearest" });
  find("caption").textContent = [`${image.name}, ${image.width} × ${image.height} pixels`, ...image.tags].join(" · ");
  find("measures").replaceChildren(...data.models.map((model, i) => {
    const row = element("tr");
    const value = (values, digits) => element("td", values[i].toFixed(digits), {
      className: data.models.length > 1 && values[i] === Math.max(...values) ? "best" : "",
    });
    row.append(element("th", model.name, { scope: "row" }), value(image.psnr, 2), value(image.ssim, 4));
    return row;
  }));
  resize();
  document.body.dataset.image = number; // what is shown
}

const change = (changes) => {
  Object.assign(state, changes);
  show();
};
const others = (number, by) => (number + by + names.length) % names.length;
const neighbour = (by) => choose((state.image + by + data.images.length) % data.images.length);
const zoomed = (work) => {
  work();
  show();
};

/** A point of the stage, in pixels of the screen, of a pointer. */
function pointOf(event) {
  const [canvas, box] = [find("canvas"), find("canvas").getBoundingClientRect()];
  return [event.clientX - box.left, event.clientY - box.top].map((at) => (at * canvas.width) / (box.width || 1));
}

function tellPixel(event) {
  const pixel = pictures.length ? view.pixelAt(pointOf(event)) : null;
  const value = (picture) => pictures[picture].getContext("2d").getImageData(...pixel, 1, 1).data.slice(0, 3).join(" ");
  find("pixel").textContent = pixel
    ? `x ${pixel[0]}, y ${pixel[1]}: left ${value(state.left)}, right ${value(state.right)}` : "\u00a0";
}

/** Call `moved` with every step of a drag that begins on an element. */
function onDrag(target, moved) {
  target.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    target.setPointerCapture(event.pointerId);
    let last = pointOf(event);
    const step = (next) => {
      const point = pointOf(next);
      moved(point, [point[0] - last[0], point[1] - last[1]]);
      last = point;
      show();
    };
    const end = () => {
      target.removeEventListener("pointermove", step);
      ["pointerup", "pointercancel"].forEach((name) => target.removeEventListener(name, end));
    };
    target.addEventListener("pointermove", step);
    ["pointerup", "pointercancel"].forEach((name) => target.addEventListener(name, end));
  });
}

/** Keys of the picture and its divider. */
function onStageKey(event) {
  const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
  const pixels = view.image[0] * view.zoom;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.shiftKey && (x || y)) view.move([-40 * x, -40 * y]);
  else if (x) view.wipeTo(view.wipeAt + x * Math.max(1, view.zoom, pixels / 100));
  else if (event.key === "Home" || event.key === "End") view.wipe = event.key === "End" ? 1 : 0;
  else return;
  event.preventDefault();
  show();
}

const KEYS = {
  j: () => neighbour(1),
  k: () => neighbour(-1),
  "[": () => change({ left: others(state.left, 1) }),
  "]": () => change({ right: others(state.right, 1) }),
  s: () => change({ left: state.right, right: state.left }),
  d: () => change({ mode: modes[(modes.indexOf(state.mode) + 1) % modes.length] }),
  "+": () => zoomed(() => view.step(1)),
  "=": () => zoomed(() => view.step(1)),
  "-": () => zoomed(() => view.step(-1)),
  1: () => zoomed(() => view.zoomTo(1)),
  f: () => zoomed(() => view.fit()),
};

function start() {
  const models = data.models.map((model) => `${model.name}: ${model.psnr.toFixed(2)} dB, SSIM ${model.ssim.toFixed(4)}`);
  find("about").textContent = `${data.images.length} of ${data.num_images} images. Means over all: ${models.join("; ")}.`;
  for (const side of ["left", "right"]) {
    find(side).replaceChildren(...names.map((name, value) => element("option", name, { value })));
    find(side).onchange = (event) => change({ [side]: Number(event.target.value) });
  }
  find("gain").replaceChildren(...gains.map((value) => element("option", `× ${value}`, { value })));
  find("gain").onchange = (event) => change({ gain: Number(event.target.value) });
  find("mode").onchange = (event) => change({ mode: event.target.value });
  find("images").replaceChildren(...data.images.map((image, number) => {
    const button = element("button", "", { type: "button", title: image.name, onclick: () => choose(number) });
    const large = image.width > 92 || image.height > 64;
    button.append(element("img", "", { src: image.pictures[0], alt: image.name, className: large ? "large" : "" }));
    button.append(...(image.tags.length ? image.tags : [image.name]).map((tag) => element("small", tag)));
    return button;
  }));
  for (const [id, key] of Object.entries({ swap: "s", in: "+", out: "-", one: "1", fit: "f" })) find(id).onclick = KEYS[key];
  const canvas = find("canvas");
  onDrag(find("divider"), (point) => view.wipeTo(point[0]));
  onDrag(canvas, (point, by) => (view.pans ? view.move(by) : view.wipeTo(point[0])));
  for (const target of [canvas, find("divider")]) target.addEventListener("keydown", onStageKey);
  find("stage").addEventListener("pointermove", tellPixel);
  find("stage").addEventListener("wheel", (event) => {
    if (event.ctrlKey) return; // the browser's own zoom
    event.preventDefault();
    zoomed(() => view.step(event.deltaY < 0 ? 1 : -1, pointOf(event)));
  }, { passive: false });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("select, input, textarea");
    const work = KEYS[event.key.toLowerCase()];
    if (!work || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    work();
  });
  new ResizeObserver(resize).observe(find("stage"));
  choose(0);
}

start();
