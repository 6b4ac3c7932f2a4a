// Work that is done once, some time after the last call of `soon`.
export class Later {
  constructor(pause, work) {
    this.pause = pause;
    this.work = work;
    this.timer = null;
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(this.work, this.pause);
  }

  cancel() {
    clearTimeout(this.timer);
  }
}
