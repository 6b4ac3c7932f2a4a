// What the page has to do, one thing at a time, see worker.py: the latest live request, then requests in turn, then
// what waits for quiet, then the rest in small steps.
export class Work {
  constructor(failed) {
    this.failed = failed; // called with each error
    this.waitingLive = null; // { work, dropped }
    this.requests = [];
    this.settling = null;
    this.timer = null;
    this.background = []; // async iterators
    this.running = false;
  }

  // Does this before anything else; calls `dropped` instead if a newer live request comes first.
  live(work, dropped) {
    this.waitingLive?.dropped();
    this.waitingLive = { work, dropped };
    this.unsettle();
    this.run();
  }

  request(work) {
    this.requests.push(work);
    this.run();
  }

  // Does this after some milliseconds without a live request, instead of what was to be done then.
  settle(work, milliseconds) {
    this.unsettle();
    this.timer = setTimeout(() => {
      this.timer = null;
      this.settling = work;
      this.run();
    }, milliseconds);
  }

  unsettle() {
    clearTimeout(this.timer);
    this.timer = this.settling = null;
  }

  // Goes through an async iterator, before those that wait already.
  soon(steps) {
    this.background.unshift(steps);
    this.run();
  }

  async run() {
    if (this.running) return;
    this.running = true;
    for (let work = this.next(); work; work = this.next()) {
      try {
        await work();
      } catch (error) {
        this.failed(error);
      }
    }
    this.running = false;
  }

  next() {
    const { waitingLive, settling } = this;
    if (waitingLive) {
      this.waitingLive = null;
      return waitingLive.work;
    }
    if (this.requests.length) return this.requests.shift();
    if (settling) {
      this.settling = null;
      return settling;
    }
    return this.background.length && this.timer === null ? () => this.step(this.background[0]) : null;
  }

  async step(steps) {
    let done = true; // also if it fails
    try {
      ({ done } = await steps.next());
    } finally {
      if (done) this.background = this.background.filter((each) => each !== steps);
    }
  }
}
