// A colour of the host's theme, resolved by the style sheet.
export function themeColour(element, name) {
  return getComputedStyle(element).getPropertyValue(name).trim() || "gray";
}

// Sizes a canvas in CSS pixels at the screen's resolution. Returns its context, which draws in CSS pixels.
export function sharpContext(canvas, width, height) {
  const ratio = globalThis.devicePixelRatio || 1;
  const [columns, rows] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== columns || canvas.height !== rows) Object.assign(canvas, { width: columns, height: rows });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}
