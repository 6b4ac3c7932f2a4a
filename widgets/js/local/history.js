const LONGEST = 50; // changes that can be undone

// The current state, and the earlier ones that can be undone, see state.py. A state is
// { latent, image, seed, name, edited }: `image` has what was encoded, or is null.
export class History {
  constructor(state) {
    this.state = state;
    this.past = [];
    this.gesture = null; // the drag that the last change belongs to
  }

  change(state, gesture = null) {
    if (!state.latent.every(Number.isFinite)) throw new Error("This change would make the latent infinite or NaN: use smaller numbers.");
    if (gesture === null || gesture !== this.gesture) this.past = [...this.past.slice(1 - LONGEST), this.state];
    this.state = state;
    this.gesture = gesture;
  }

  undo() {
    if (!this.past.length) throw new Error("There is nothing to undo.");
    this.state = this.past.pop();
    this.gesture = null;
  }

  // The state in which a drag began; the current one if the last change was not part of that drag.
  startOf(gesture) {
    return gesture !== null && gesture !== undefined && gesture === this.gesture ? this.past.at(-1) : this.state;
  }
}
