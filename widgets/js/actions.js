import { button, h } from "./dom.js";
import { bytesOf } from "./pixels.js";

const FILES = { png: ["latent-lab.png", "image/png"], latent: ["latent.safetensors", "application/octet-stream"], shelf: ["shelf.safetensors", "application/octet-stream"] };

// Actions on the current latent: undo, reset, mean or sample, keep, save, copy its code.
export class Actions {
  constructor(lab) {
    this.lab = lab;
    this.seed = 0;
    const act = (message) => () => lab.act(message);
    this.code = h("textarea", { class: "ll-code-text", readOnly: true, rows: 8, "aria-label": "Python code for this latent", spellcheck: false });
    this.codeBox = h("details", { class: "ll-code-box" }, h("summary", { "data-lm-suppress-shortcuts": "true" }, "Python code for this latent"), this.code);
    this.codeBox.hidden = true;
    const posterior = lab.info.samples
      ? [
          button("Mean", act({ do: "posterior", seed: null }), { title: "The mean of the posterior" }),
          button("Sample", () => lab.act({ do: "posterior", seed: this.seed++ }), { title: "A sample of the posterior; each press draws a new one" }),
        ]
      : [];
    this.element = h(
      "div",
      {},
      h(
        "div",
        { class: "ll-row", role: "toolbar", "aria-label": "Latent" },
        button("Undo", act({ do: "undo" }), { title: "Undo the last change (Ctrl+Z)" }),
        button("Reset", act({ do: "reset" }), { title: "Back to the encoder's output" }),
        ...posterior,
        button("Keep", act({ do: "keep" }), { class: "ll-button ll-primary", title: "Put the current latent on the shelf" }),
        button("Save PNG", () => this.save("png")),
        button("Save latent", () => this.save("latent"), { title: "Save the current latent as safetensors" }),
        button("Save shelf", () => this.save("shelf"), { title: "Save all latents of the shelf as safetensors" }),
        button("Copy code", () => this.copyCode(), { title: "Copy the Python code that gives this latent" }),
      ),
      this.codeBox,
    );
  }

  async save(what) {
    const answer = await this.lab.act({ do: "save", what });
    if (!answer) return;
    const [name, type] = FILES[what];
    const url = URL.createObjectURL(new Blob([bytesOf(answer.buffers[0])], { type }));
    h("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    this.lab.say(`Saved ${name}.`);
  }

  async copyCode() {
    const answer = await this.lab.act({ do: "code" });
    if (!answer) return;
    this.code.value = answer.message.text;
    this.codeBox.hidden = false;
    try {
      await navigator.clipboard.writeText(answer.message.text);
      this.lab.say("Copied the code to the clipboard.");
    } catch {
      this.codeBox.open = true;
      this.code.select();
      this.lab.say("The browser does not let the lab use the clipboard: copy the selected code below.");
    }
  }
}
