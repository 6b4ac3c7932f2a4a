// Arithmetic on latents (C, h, w) as flat arrays, see vae_plugin/latents.py.

// Slerp turns into lerp between these values of (pi - angle) in radians, and of the ratio of the two norms.
const [LERP_BELOW, SLERP_ABOVE] = [1e-3, 1e-2];

// The sum of weights[i] * latents[i].
export function weighted(weights, latents) {
  const sum = new Float64Array(latents[0].length);
  latents.forEach((latent, i) => { for (let j = 0; j < sum.length; j += 1) sum[j] += weights[i] * latent[j]; });
  return Float32Array.from(sum);
}

export function meanOf(latents) {
  return weighted(latents.map(() => 1 / latents.length), latents);
}

export function lerp(a, b, t) {
  return weighted([1 - t, t], [a, b]);
}

// Along the great circle, for the vector over C at each of the positions.
export function slerp(a, b, t, positions) {
  const result = new Float32Array(a.length);
  for (let p = 0; p < positions; p += 1) {
    const [from, to] = [a, b].map((latent) => latent.filter((_, i) => i % positions === p));
    slerpVectors(from, to, t).forEach((value, c) => { result[c * positions + p] = value; });
  }
  return result;
}

function slerpVectors(a, b, t) {
  let [normA, normB] = [norm(a), norm(b)];
  const [shorter, longer] = [Math.min(normA, normB), Math.max(normA, normB)];
  const directed = shorter > LERP_BELOW * longer;
  const ratio = directed ? shorter / longer : 0;
  if (!directed) [normA, normB] = [1, 1];
  const [unitA, unitB] = [Array.from(a, (x) => x / normA), Array.from(b, (x) => x / normB)];
  const opposite = directed ? norm(unitA.map((x, i) => x + unitB[i])) : 1;
  const chord = norm(unitA.map((x, i) => x - unitB[i]));
  const angle = Math.min(2 * Math.atan2(chord, opposite), Math.PI - LERP_BELOW);
  const share = (s) => (angle ? Math.sin(s * angle) / Math.sin(angle) : s);
  const length = (1 - t) * normA + t * normB;
  const [onA, onB] = [(share(1 - t) * length) / normA, (share(t) * length) / normB];
  const blend = smoothstep(ratio) * smoothstep(opposite);
  return Array.from(a, (_, i) => {
    const straight = (1 - t) * a[i] + t * b[i];
    return straight + blend * (onA * a[i] + onB * b[i] - straight);
  });
}

function norm(vector) {
  return Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
}

function smoothstep(x) {
  const s = Math.min(1, Math.max(0, (x - LERP_BELOW) / (SLERP_ABOVE - LERP_BELOW)));
  return s * s * (3 - 2 * s);
}

// A latent (C, h, w) at 1/shrink of its grid, averaged: { latent, shape }.
export function pooled(latent, [channels, height, width], shrink) {
  const [rows, columns] = [Math.floor(height / shrink), Math.floor(width / shrink)];
  const small = new Float32Array(channels * rows * columns);
  for (let at = 0; at < small.length; at += 1) {
    const [c, y, x] = [Math.floor(at / (rows * columns)), Math.floor(at / columns) % rows, at % columns];
    let sum = 0;
    for (let dy = 0; dy < shrink; dy += 1) {
      for (let dx = 0; dx < shrink; dx += 1) sum += latent[(c * height + y * shrink + dy) * width + x * shrink + dx];
    }
    small[at] = sum / shrink ** 2;
  }
  return { latent: small, shape: [channels, rows, columns] };
}
