// Messages to and from the kernel. Of live requests (a drag), one is under way and at most one waits: later changes are
// merged into the waiting one, so that nothing queues up and the last change always arrives.

const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]"]);
const PATIENCE = 6000; // ms without an answer before the lab asks whether the kernel is there

export class Channel {
  constructor(model, view, listeners) {
    this.model = model;
    this.view = view;
    this.listeners = listeners; // { frame, sheet, error, silent, working }
    this.asked = new Map(); // id -> { resolve, reject }
    this.lastId = 0;
    this.lost = true; // whether earlier messages may never arrive
    this.flying = null; // id of the live request under way
    this.waiting = null; // the live request that is sent next
    this.gestures = 0;
    this.timer = null;
    this.pause = PATIENCE; // longer while the kernel is silent
    this.knocked = null; // id of the request that asks whether the kernel is there
    this.receive = this.receive.bind(this);
    model.on("msg:custom", this.receive);
  }

  close() {
    clearTimeout(this.timer);
    this.model.off("msg:custom", this.receive);
  }

  // An id for a gesture; changes with the same gesture are undone together.
  newGesture() {
    this.gestures += 1;
    return `${this.view}:${this.gestures}`;
  }

  get idle() {
    return this.flying === null && this.waiting === null;
  }

  // Edits of the latent, see `Edits.edit` in edits.py.
  edit(edits, gesture) {
    const before = this.waiting;
    if (before?.do === "edit" && before.gesture === gesture) edits = mergeEdits(before.edits, edits);
    else if (before) this.flush();
    this.live({ do: "edit", edits, gesture });
  }

  // An operation on saved latents, see `Edits.combine` in edits.py.
  combine(operation, gesture) {
    if (this.waiting && this.waiting.do !== "combine") this.flush();
    this.live({ do: "combine", operation, gesture });
  }

  live(message) {
    if (this.flying !== null) this.waiting = message;
    else this.flying = this.send(message);
  }

  // Sends the waiting request, before one of another kind would replace it.
  flush() {
    if (this.waiting) this.send(this.waiting);
    this.waiting = null;
  }

  // Sends a request; resolves to its answer, the first message of kind "reply", "frame" or "sheet" with its id.
  ask(message, buffers = []) {
    this.flush();
    return new Promise((resolve, reject) => {
      this.asked.set(this.send(message, buffers), { resolve, reject });
    });
  }

  send(message, buffers = []) {
    this.lastId += 1;
    const id = this.lastId;
    const order = { view: this.view, id, turn: id, first: this.lost };
    this.lost = false;
    this.model.send({ ...message, ...order, loopback: LOOPBACK.has(location.hostname) }, undefined, buffers);
    this.wait();
    return id;
  }

  receive(message, buffers) {
    this.listeners.silent(false);
    this.pause = PATIENCE;
    if (message.kind === "error") this.listeners.error(message.text);
    const mine = message.view === this.view && message.id !== undefined;
    if (mine && message.id === this.knocked) this.stillWorking(message.working);
    else if (mine) this.listeners.working(false);
    if (mine && message.id === this.flying) this.answered();
    if (message.kind === "frame") this.listeners.frame(message, buffers, mine);
    if (message.kind === "sheet") this.listeners.sheet(message, buffers, mine);
    if (mine && this.asked.has(message.id)) {
      const { resolve, reject } = this.asked.get(message.id);
      this.asked.delete(message.id);
      if (message.kind === "dropped") reject(new Error("dropped"));
      else resolve({ message, buffers });
    }
    this.alive();
  }

  // The kernel is alive: wait for the full time again, if there is anything to wait for.
  alive() {
    this.knocked = null;
    clearTimeout(this.timer);
    if (this.flying !== null || this.asked.size) this.wait();
  }

  wait() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.knock(), this.pause);
  }

  // Nothing has come for a while: ask which requests the kernel is working on. If that is not answered either, it is busy
  // with a cell or gone.
  knock() {
    if (this.knocked !== null) this.giveUp();
    const ids = [...this.asked.keys(), ...(this.flying === null ? [] : [this.flying])];
    this.knocked = this.send({ do: "alive", ids });
  }

  // The kernel has answered a knock. What it does not work on never reached it: all that it has done was answered before.
  stillWorking(ids) {
    const working = new Set(ids);
    const lost = [...this.asked].filter(([id]) => id < this.knocked && !working.has(id));
    for (const [id, { reject }] of lost) {
      this.asked.delete(id);
      reject(new Error("lost"));
    }
    if (lost.length) this.listeners.error("A request was lost on its way to the kernel: try again.");
    if (this.flying !== null && this.flying < this.knocked && !working.has(this.flying)) this.answered();
    this.listeners.working(working.size > 0);
  }

  // The live request was answered. The next one is sent before the answer is drawn.
  answered() {
    this.flying = null;
    if (this.waiting) {
      this.flying = this.send(this.waiting);
      this.waiting = null;
    }
  }

  // No sign of life for too long. A busy kernel finds the latest change when it is done, and its answers are still
  // awaited; for a restarted one nothing waits.
  giveUp() {
    this.listeners.silent(true);
    this.lost = true;
    this.flying = null;
    this.flush();
    this.pause = Math.min(2 * this.pause, 16 * PATIENCE);
  }
}

// If all edits are moves, only the last along each axis counts; otherwise all are kept in order.
export function mergeEdits(before, after) {
  const axes = new Set(after.filter((edit) => "axis" in edit).map((edit) => edit.axis));
  const onlyMoves = [...before, ...after].every((edit) => "axis" in edit);
  return [...(onlyMoves ? before.filter((edit) => !axes.has(edit.axis)) : before), ...after];
}
