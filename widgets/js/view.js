import { Actions } from "./actions.js";
import { Arithmetic } from "./arithmetic.js";
import { Brush } from "./brush.js";
import { Codes } from "./codes.js";
import { h } from "./dom.js";
import { Images } from "./images.js";
import { LatentMap } from "./map.js";
import { Samples } from "./samples.js";
import { ShelfView } from "./shelf.js";
import { Sliders } from "./sliders.js";
import { tabs } from "./tabs.js";

function modelWords({ model, image, latent, device, dtype, codes }) {
  const numbers = latent.reduce((a, b) => a * b, 1);
  const kind = codes ? `codes of ${codes}` : `${numbers} numbers`;
  return `${model} · image ${image[1]}×${image[2]}×${image[0]} → latent ${latent.join("×")} (${kind}) · ${dtype} on ${device}`;
}

export function build(lab, el) {
  const images = new Images(lab);
  const actions = new Actions(lab);
  const pages = [
    { key: "sliders", title: "Sliders", element: new Sliders(lab).element },
    { key: "map", title: "Map", element: new LatentMap(lab).element },
  ];
  if (lab.info.discrete) pages.push({ key: "tokens", title: "Codes", element: new Codes(lab).element });
  if (!lab.info.flat) pages.push({ key: "brush", title: "Brush", element: new Brush(lab).element });
  pages.push({ key: "arithmetic", title: "Arithmetic", element: new Arithmetic(lab).element });
  pages.push({ key: "samples", title: "Strips and samples", element: new Samples(lab).element });
  pages.push({ key: "images", title: "Images", element: images.element });
  const work = tabs(lab, "Ways into the latent space", pages);

  const root = h(
    "div",
    { class: "latent-lab", role: "region", "aria-label": "Latent Lab", "data-latent-lab": lab.model.get("_lab") },
    h("header", {}, h("strong", {}, "Latent Lab"), h("span", { class: "ll-model" }, modelWords(lab.info)), lab.notices.state, lab.notices.status),
    lab.notices.quiet,
    lab.notices.alert,
    h("div", { class: "ll-body" }, h("div", { class: "ll-left" }, lab.stage.element, actions.element), work),
    new ShelfView(lab).element,
  );
  // The picture that the notebook's file keeps is for the time without a lab.
  const id = CSS.escape(lab.model.get("_lab"));
  const still = `figure[data-latent-lab-still="${id}"]`;
  root.append(h("style", {}, `${still}, .jp-OutputArea-child:has(${still}), .output_area:has(> ${still}) { display: none !important; }`));
  root.addEventListener("keydown", (event) => {
    event.stopPropagation();
    const typing = event.target.matches("input[type=text], input[type=number], textarea");
    if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey) && !typing) {
      event.preventDefault();
      lab.act({ do: "undo" });
    }
  });
  images.listen(root);
  el.append(root);
}
