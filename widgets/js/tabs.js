import { h, uniqueId } from "./dom.js";
import { Waiting } from "./waiting.js";

// Tabs that follow the ARIA practices: arrow keys move from one to the next, and the focused one is shown.
// A page that `waits` shows how far the encoding of the images is, until they are encoded.
export function tabs(lab, label, pages) {
  const buttons = pages.map(({ key, title }) =>
    h("button", { type: "button", role: "tab", class: "ll-tab", id: uniqueId("tab"), "data-tab": key, onclick: () => choose(key) }, title),
  );
  const panels = pages.map(({ key, element, waits }, i) => {
    const waiting = waits ? new Waiting(lab).element : null;
    const panel = h("div", { role: "tabpanel", class: "ll-page", id: uniqueId("page"), tabIndex: 0, "aria-labelledby": buttons[i].id, "data-page": key }, waiting, element);
    if (waiting) {
      element.hidden = true;
      lab.on("space", () => {
        element.hidden = false;
        waiting.hidden = true;
        if (lab.tab === key) lab.emit(`tab:${key}`);
      });
    }
    buttons[i].setAttribute("aria-controls", panel.id);
    return panel;
  });

  function choose(key, focus = false) {
    lab.tab = key;
    pages.forEach((page, i) => {
      const chosen = page.key === key;
      buttons[i].setAttribute("aria-selected", String(chosen));
      buttons[i].tabIndex = chosen ? 0 : -1;
      panels[i].hidden = !chosen;
      if (chosen && focus) buttons[i].focus();
    });
    lab.emit(`tab:${key}`);
    lab.emit("picture");
  }

  const bar = h(
    "div",
    {
      role: "tablist",
      class: "ll-tabs",
      "aria-label": label,
      onkeydown: (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
        const at = buttons.findIndex((element) => element.getAttribute("aria-selected") === "true");
        if (step === undefined || at < 0) return;
        event.preventDefault();
        const next = Number.isFinite(step) ? (at + step + pages.length) % pages.length : step < 0 ? 0 : pages.length - 1;
        choose(pages[next].key, true);
      },
    },
    ...buttons,
  );
  choose(pages[0].key);
  return h("div", { class: "ll-work" }, bar, h("div", { class: "ll-pages" }, ...panels));
}
