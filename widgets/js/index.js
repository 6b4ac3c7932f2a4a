import { Lab } from "./lab.js";
import { watchTheme } from "./theme.js";
import { build } from "./view.js";

let views = 0;

function render({ model, el }) {
  views += 1;
  const lab = new Lab(model, `${Date.now().toString(36)}-${views}`);
  build(lab, el);
  const readSpace = () => {
    lab.readSpace();
    lab.progress();
  };
  const changes = {
    "change:_space": readSpace,
    "change:_progress": () => lab.progress(),
    "change:_shelf": () => lab.emit("shelf"),
    // Of another view, of Python, or from before this view was opened.
    "change:_picture": () => { if (!lab.stage.drawn) lab.showSaved(); },
  };
  for (const [event, listener] of Object.entries(changes)) model.on(event, listener);
  readSpace();
  lab.emit("shelf");
  lab.showSaved();
  const forgetTheme = watchTheme(lab);
  return () => {
    forgetTheme();
    for (const [event, listener] of Object.entries(changes)) model.off(event, listener);
    for (const cleanup of lab.cleanups) cleanup();
    lab.channel.close();
  };
}

export default { render };
