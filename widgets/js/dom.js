// Elements, made without HTML from strings: names and labels are shown as the text that they are.

const FOCUSABLE = new Set(["button", "input", "select", "textarea", "canvas"]);
// Each lab on a page runs its own copy of this module, and an id must be unique among all.
const scope = Math.random().toString(36).slice(2, 8);
let counter = 0;

export function uniqueId(prefix) {
  counter += 1;
  return `ll-${scope}-${prefix}-${counter}`;
}

// h("button", { class: "x", onclick: f, disabled: true, "aria-label": "..." }, "text", child, ...)
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.includes("-") && name !== "list" && name !== "role") {
      element[name === "class" ? "className" : name] = value;
    } else if (name === "class") element.className = value;
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  // JupyterLab and Notebook see the keys of an output's elements too: "d d" on a slider would delete the cell.
  if (FOCUSABLE.has(tag) || "tabIndex" in properties) element.setAttribute("data-lm-suppress-shortcuts", "true");
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function button(label, onclick, properties = {}) {
  return h("button", { type: "button", class: "ll-button", onclick, ...properties }, label);
}

// A control with its label before it.
export function labelled(text, control, properties = {}) {
  control.id = control.id || uniqueId("control");
  return h("div", { class: "ll-field", ...properties }, h("label", { htmlFor: control.id }, text), control);
}

// Replaces the options of a select and keeps what is chosen, if it is still there.
export function setOptions(select, options) {
  const chosen = select.value;
  select.replaceChildren(...options.map(({ value, text }) => h("option", { value }, text)));
  if (options.some(({ value }) => value === chosen)) select.value = chosen;
  return select;
}

export function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

// Whole words for a screen reader and a tooltip, short ones for the eye.
export function number(value, digits = 3) {
  return Number.isFinite(value) ? String(Number(value.toPrecision(digits))) : "–";
}

// Colours of the host's theme as the style sheet has found them.
export function themeColour(element, name) {
  return getComputedStyle(element).getPropertyValue(name).trim() || "gray";
}

// A canvas as sharp as the screen, of a size in CSS pixels; gives its context, scaled to these.
export function sharpContext(canvas, width, height) {
  const ratio = globalThis.devicePixelRatio || 1;
  const [w, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== high) Object.assign(canvas, { width: w, height: high });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

// Where a pointer is in a canvas, each from 0 to 1.
export function fraction(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [
    clamp((event.clientX - box.left) / (box.width || 1), 0, 1),
    clamp((event.clientY - box.top) / (box.height || 1), 0, 1),
  ];
}

// Where a pointer is in a canvas, in CSS pixels from its left and its top.
export function pointIn(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

// Calls `move(event, first)` for every position of a drag that begins on the canvas, and `end()` after it.
// Returns the drag, whose `active` says whether one is under way.
export function onDrag(canvas, move, end = () => {}) {
  const drag = { active: false };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    drag.active = true;
    move(event, true);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drag.active) move(event, false);
  });
  const stop = () => {
    if (!drag.active) return;
    drag.active = false;
    end();
  };
  canvas.addEventListener("pointerup", stop);
  canvas.addEventListener("pointercancel", stop);
  return drag;
}
