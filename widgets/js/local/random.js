// The random numbers of torch on a CPU: a seed gives here the latents that it gives in Python.

const [SIZE, SHIFT] = [624, 397]; // of the Mersenne Twister
const FILLED = 16; // torch draws this many normal numbers together, and fewer in another way

export class TorchRandom {
  constructor(seed) {
    this.state = new Uint32Array(SIZE);
    this.state[0] = seed % 2 ** 32; // torch ignores the rest too
    for (let j = 1; j < SIZE; j += 1) {
      const before = this.state[j - 1] ^ (this.state[j - 1] >>> 30);
      this.state[j] = Math.imul(1812433253, before) + j;
    }
    this.next = SIZE;
    this.spare = null; // the second of a pair of normal numbers
  }

  uint32() {
    if (this.next === SIZE) this.twist();
    let y = this.state[this.next];
    this.next += 1;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  twist() {
    const { state } = this;
    for (let j = 0; j < SIZE; j += 1) {
      const y = (state[j] & 0x80000000) | (state[(j + 1) % SIZE] & 0x7fffffff);
      state[j] = state[(j + SHIFT) % SIZE] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }

  // torch.randn(count, generator=...)
  normal(count) {
    const numbers = new Float32Array(count);
    if (count < FILLED) return numbers.map(() => this.oneNormal());
    for (let i = 0; i < count; i += 1) numbers[i] = this.uniform24();
    for (let at = 0; at + FILLED <= count; at += FILLED) boxMuller(numbers.subarray(at, at + FILLED));
    if (count % FILLED) {
      const rest = numbers.subarray(count - FILLED);
      for (let i = 0; i < FILLED; i += 1) rest[i] = this.uniform24();
      boxMuller(rest);
    }
    return numbers;
  }

  uniform24() {
    return (this.uint32() & 0xffffff) / 2 ** 24;
  }

  uniform53() {
    const high = this.uint32() & 0x1fffff;
    return (high * 2 ** 32 + this.uint32()) / 2 ** 53;
  }

  oneNormal() {
    if (this.spare !== null) {
      const spare = this.spare;
      this.spare = null;
      return spare;
    }
    const [u, v] = [this.uniform53(), this.uniform53()];
    const radius = Math.sqrt(-2 * Math.log1p(-v));
    this.spare = radius * Math.sin(2 * Math.PI * u);
    return radius * Math.cos(2 * Math.PI * u);
  }
}

// Sixteen uniform numbers become normal ones, the first eight as radii and the others as angles.
function boxMuller(numbers) {
  for (let j = 0; j < FILLED / 2; j += 1) {
    const radius = Math.sqrt(-2 * Math.log(1 - numbers[j]));
    const angle = 2 * Math.PI * numbers[j + FILLED / 2];
    numbers[j] = radius * Math.cos(angle);
    numbers[j + FILLED / 2] = radius * Math.sin(angle);
  }
}
