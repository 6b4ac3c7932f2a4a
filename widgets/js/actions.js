import { button, h } from "./dom.js";
import { iconButton } from "./icons.js";
import { menu } from "./menu.js";
import { bytesOf } from "./pixels.js";

const FILES = { png: ["latent-lab.png", "image/png"], latent: ["latent.safetensors", "application/octet-stream"], shelf: ["shelf.safetensors", "application/octet-stream"] };

// What is done with the current latent: keep it; undo, reset, sample; the rest in a menu.
export class Actions {
  constructor(lab, images) {
    this.lab = lab;
    this.seed = 0;
    const act = (message) => () => lab.act(message);
    this.code = h("textarea", { class: "ll-code-text", readOnly: true, rows: 10, "aria-label": "Python code for this latent", spellcheck: false });
    this.codeBox = h(
      "div",
      { class: "ll-over ll-code-box", role: "dialog", "aria-label": "Python code for this latent", hidden: true, onkeydown: (event) => { if (event.key === "Escape") this.codeBox.hidden = true; } },
      h("div", { class: "ll-row" }, h("b", {}, "Python code for this latent"), iconButton("close", "Close", () => { this.codeBox.hidden = true; })),
      this.code,
    );
    const sample = () => lab.act({ do: "posterior", seed: this.seed++ });
    const posterior = lab.info.samples ? [{ text: "Mean of the posterior", run: act({ do: "posterior", seed: null }) }] : [];
    this.element = h(
      "div",
      { class: "ll-toolbar", role: "toolbar", "aria-label": "Latent" },
      button("Keep", act({ do: "keep" }), { class: "ll-button ll-primary", title: "Put the current latent on the shelf" }),
      iconButton("undo", "Undo (Ctrl+Z)", act({ do: "undo" })),
      iconButton("reset", "Reset to the encoder's latent", act({ do: "reset" })),
      lab.info.samples ? iconButton("dice", "Sample the posterior", sample) : null,
      iconButton("open", images.encodes ? "Open an image…" : "Open latents…", () => images.file.click()),
      menu(lab, "More", [
        ...posterior,
        { text: "Save picture", hint: "Ctrl+S", run: () => this.save("png") },
        { text: "Save latent", hint: "safetensors", run: () => this.save("latent") },
        { text: "Save shelf", hint: "safetensors", run: () => this.save("shelf") },
        { text: "Copy Python code", run: () => this.copyCode() },
      ]),
    );
  }

  async save(what) {
    const answer = await this.lab.ask({ do: "save", what });
    if (!answer) return;
    const [name, type] = FILES[what];
    const url = URL.createObjectURL(new Blob([bytesOf(answer.buffers[0])], { type }));
    h("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    this.lab.say(`Saved ${name}.`);
  }

  async copyCode() {
    const answer = await this.lab.ask({ do: "code" });
    if (!answer) return;
    this.code.value = answer.message.text;
    this.codeBox.hidden = false;
    this.code.focus();
    try {
      await navigator.clipboard.writeText(answer.message.text);
      this.lab.say("Copied the code to the clipboard.");
    } catch {
      this.code.select();
      this.lab.say("The browser does not let the lab use the clipboard: copy the selected code.");
    }
  }
}
