import { iconButton } from "./icons.js";

// A button that shows an element on the whole screen, and ends that; null where the page does not allow it.
export function fullScreenButton(lab, element) {
  if (!document.fullscreenEnabled) return null;
  const toggle = () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else element.requestFullscreen().catch(() => lab.complain("The browser does not let the lab use the whole screen."));
  };
  return iconButton("full", "Full screen", toggle, { "data-action": "fullscreen" });
}
