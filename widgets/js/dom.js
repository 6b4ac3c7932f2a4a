// Elements without HTML from strings, so that names and labels are always shown as text.

const FOCUSABLE = new Set(["button", "input", "select", "textarea", "summary"]);
// Each lab on a page runs its own copy of this module, yet ids must be unique on the whole page.
const scope = Math.random().toString(36).slice(2, 8);
let counter = 0;

export function uniqueId(prefix) {
  counter += 1;
  return `ll-${scope}-${prefix}-${counter}`;
}

/**
 * h("button", { class: "x", onclick: f, disabled: true, "aria-label": "..." }, "text", child, ...)
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [properties]
 * @param {...any} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.includes("-") && name !== "list" && name !== "role") element[name] = value;
    else if (name === "class") element.className = value;
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  // JupyterLab and Notebook also see keys pressed in an output: without this, "d d" on a slider deletes the cell.
  if (FOCUSABLE.has(tag) || "tabIndex" in properties) element.setAttribute("data-lm-suppress-shortcuts", "true");
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function button(label, onclick, properties = {}) {
  return h("button", { type: "button", class: "ll-button", onclick, ...properties }, label);
}

export const WIDE = { class: "ll-field ll-wide" }; // of a field whose choices are phrases

// A control below its label.
export function labelled(text, control, properties = {}) {
  control.id = control.id || uniqueId("control");
  return h("div", { class: "ll-field", ...properties }, h("label", { htmlFor: control.id }, text), control);
}

// A choice among a few values as buttons beside each other, of which one is pressed: { element, value }.
export function segments(label, options, chosen, onchange) {
  const name = uniqueId("choice");
  const choice = { element: null, value: chosen };
  choice.element = h(
    "div",
    { class: "ll-segments", role: "radiogroup", "aria-label": label },
    ...options.map(({ value, text }) => {
      const pick = () => {
        choice.value = value;
        onchange(value);
      };
      return h("label", {}, h("input", { type: "radio", name, value, checked: value === chosen, onchange: pick }), h("span", {}, text));
    }),
  );
  return choice;
}

// Replaces the options of a select; the chosen one stays chosen if it still exists.
export function setOptions(select, options) {
  const chosen = select.value;
  select.replaceChildren(...options.map(({ value, text }) => h("option", { value }, text)));
  if (options.some(({ value }) => value === chosen)) select.value = chosen;
  return select;
}
