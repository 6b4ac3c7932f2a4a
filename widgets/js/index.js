import { Lab } from "./lab.js";
import { watchTheme } from "./theme.js";
import { buildView } from "./view.js";

let views = 0;

export function render({ model, el }) {
  views += 1;
  const lab = new Lab(model, `${Date.now().toString(36)}-${views}`);
  el.append(buildView(lab));
  watchTheme(lab);

  const readSpace = () => {
    lab.readSpace();
    lab.progress();
  };
  lab.follow("_space", readSpace);
  lab.follow("_progress", () => lab.progress());
  lab.follow("_shelf", () => lab.emit("shelf"));
  lab.follow("_problems", () => lab.showProblems());
  lab.follow("_selection", () => lab.emit("selection"));
  // The saved picture may come after this view was opened; once a live one was drawn, it is newer.
  lab.follow("_picture", () => { if (!lab.stage.drawn) lab.showSaved(); });

  readSpace();
  lab.showProblems();
  lab.emit("shelf");
  lab.showSaved();
  lab.gallery.fill();
  return () => lab.close();
}

export default { render };
