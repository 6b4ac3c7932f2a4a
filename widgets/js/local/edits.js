import { lerp, meanOf, slerp, weighted } from "./vectors.js";

// What can be done to a latent, see edits.py and arithmetic.py: each method returns the next state.
export class LatentEdits {
  constructor({ shape, axes, shelf, attributes }) {
    this.shape = shape;
    this.axes = axes;
    this.shelf = shelf;
    this.attributes = attributes; // [{ label, value, direction }]
  }

  edit(state, edits) {
    return edits.reduce((before, edit) => {
      if ("axis" in edit) return edited(before, this.axes.move(before.latent, edit.axis, edit.value));
      if ("paint" in edit) return edited(before, this.paint(before.latent, edit.paint));
      throw new Error("This page cannot change codes: open the model in a notebook.");
    }, state);
  }

  paint(latent, { cells, channel, amount, from }) {
    const [channels, height, width] = this.shape;
    const painted = Float32Array.from(latent);
    const source = from === undefined ? null : from === "mean" ? this.axes.mean : this.shelf.byKey(from).latent;
    for (const [y, x, weight] of cells) {
      if (y < 0 || y >= height || x < 0 || x >= width) continue;
      const at = (c) => (c * height + y) * width + x;
      if (source) for (let c = 0; c < channels; c += 1) painted[at(c)] = source[at(c)];
      else painted[at(channel)] += weight * amount;
    }
    return painted;
  }

  // `start` is the state in which the drag began: an attribute is added to its latent.
  combine(operation, start) {
    const saved = (key) => this.shelf.byKey(key).latent;
    if (operation.op === "attribute") return edited(start, weighted([1, operation.strength ?? 1], [start.latent, this.direction(operation, saved)]));
    return { latent: this.calculated(operation, saved), image: null, seed: null, name: operation.op, edited: true };
  }

  calculated({ op, a, b, c, t = 0.5, method = "slerp", weights }, saved) {
    if (op === "analogy") return weighted([1, -1, 1], [a, b, c].map(saved));
    if (op === "between") return this.between(saved(a), saved(b), t, method);
    if (op !== "sum") throw new Error(`Unknown operation ${op}: use analogy, sum, between or attribute.`);
    const terms = Object.entries(weights).filter(([, weight]) => weight);
    if (!terms.length) throw new Error("Every weight is 0: give at least one latent another weight.");
    return weighted(terms.map(([, weight]) => weight), terms.map(([key]) => saved(key)));
  }

  between(a, b, t, method) {
    return method === "lerp" ? lerp(a, b, t) : slerp(a, b, t, this.shape[1] * this.shape[2]);
  }

  direction({ label, value = null, with: having, without }, saved) {
    if (label !== undefined) {
      const found = this.attributes.find((each) => each.label === label && each.value === value);
      if (!found) throw new Error(`No image with or without ${label}${value === null ? "" : ` ${value}`} was encoded: choose another label.`);
      return found.direction;
    }
    if (!having.length || !without.length) throw new Error("An attribute is the difference of two groups: put at least one latent into each.");
    return weighted([1, -1], [meanOf(having.map(saved)), meanOf(without.map(saved))]);
  }
}

function edited(state, latent) {
  return { ...state, latent, edited: true };
}
