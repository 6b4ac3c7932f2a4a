export function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

// A number as text, rounded to significant digits; a dash where there is none.
export function number(value, digits = 3) {
  return Number.isFinite(value) ? String(Number(value.toPrecision(digits))) : "–";
}
