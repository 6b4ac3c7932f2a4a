import { h, uniqueId } from "./dom.js";
import { iconButton } from "./icons.js";

// A button that opens a menu of actions: [{ text, hint, run }]. Arrow keys move, Escape closes.
export function menu(lab, label, actions) {
  const list = h(
    "div",
    { class: "ll-menu", role: "menu", "aria-label": label, id: uniqueId("menu"), hidden: true, onkeydown: (event) => key(event) },
    ...actions.map(({ text, hint, run }) => {
      const act = () => {
        close(true);
        run();
      };
      return h("button", { type: "button", role: "menuitem", tabIndex: -1, onclick: act }, h("span", {}, text), h("small", {}, hint ?? ""));
    }),
  );
  const opener = iconButton("more", label, () => (list.hidden ? open() : close()), { "aria-haspopup": "menu", "aria-expanded": "false", "aria-controls": list.id });
  const items = /** @type {HTMLElement[]} */ ([...list.children]);
  const element = h("div", { class: "ll-menu-place" }, opener, list);

  function open() {
    list.hidden = false;
    opener.setAttribute("aria-expanded", "true");
    items[0].focus();
  }

  function close(focus = false) {
    list.hidden = true;
    opener.setAttribute("aria-expanded", "false");
    if (focus) opener.focus();
  }

  function key(event) {
    const at = items.indexOf(event.target);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (event.key === "Escape") close(true);
    if (to === undefined) return;
    event.preventDefault();
    items[(to + items.length) % items.length].focus();
  }

  const outside = (event) => { if (!event.composedPath().includes(element)) close(); };
  document.addEventListener("pointerdown", outside);
  lab.onClose(() => document.removeEventListener("pointerdown", outside));
  return element;
}
