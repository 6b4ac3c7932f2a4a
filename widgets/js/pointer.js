import { clamp } from "./numbers.js";

// The pointer's position in a canvas as two fractions of its size, each from 0 to 1.
export function fraction(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [
    clamp((event.clientX - box.left) / (box.width || 1), 0, 1),
    clamp((event.clientY - box.top) / (box.height || 1), 0, 1),
  ];
}

// The pointer's position in a canvas, in CSS pixels from the left and the top.
export function pointIn(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

// Calls `move(event, first)` for every pointer event of a drag that begins on the canvas, and `end()` after it.
// Returns an object whose `active` tells whether a drag is under way. Only drags with a fitting button begin.
export function onDrag(canvas, move, end = () => {}, fits = (event) => event.button === 0) {
  const drag = { active: false };
  canvas.addEventListener("pointerdown", (event) => {
    if (!fits(event)) return;
    canvas.setPointerCapture(event.pointerId);
    drag.active = true;
    move(event, true);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drag.active) move(event, false);
  });
  const stop = () => {
    if (!drag.active) return;
    drag.active = false;
    end();
  };
  canvas.addEventListener("pointerup", stop);
  canvas.addEventListener("pointercancel", stop);
  return drag;
}
