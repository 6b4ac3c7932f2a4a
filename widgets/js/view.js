import { Actions } from "./actions.js";
import { Arithmetic } from "./arithmetic.js";
import { Bands, hasBands } from "./bands.js";
import { Brush } from "./brush.js";
import { Codes } from "./codes.js";
import { h } from "./dom.js";
import { fullScreenButton } from "./fullscreen.js";
import { Images } from "./images.js";
import { LatentMap } from "./map.js";
import { Samples } from "./samples.js";
import { ShelfView } from "./shelf.js";
import { Sliders } from "./sliders.js";
import { Strips } from "./strips.js";
import { tabs } from "./tabs.js";

const SMALL_SIDE = 64; // pixels of the small pictures, at most

// The whole of a lab: pictures and actions, tabs of tools, the shelf.
export function buildView(lab) {
  const { notices, stage } = lab;
  const described = describeModel(lab.info);
  const images = new Images(lab);
  const actions = new Actions(lab, images);
  const fine = Math.max(...lab.info.image.slice(1)) > SMALL_SIDE; // a small picture is not the whole, and may be blurred
  const root = h("div", { class: fine ? "latent-lab ll-fine" : "latent-lab", role: "region", "aria-label": "Latent Lab", "data-latent-lab": lab.model.get("_lab") });
  root.append(
    h(
      "div",
      { class: "ll-header" },
      h("strong", {}, "Latent Lab"),
      h("div", { class: "ll-line", title: described }, h("span", { class: "ll-model" }, described), notices.said),
      fullScreenButton(lab, root) ?? "",
    ),
    notices.element,
    lab.info.generated && !lab.absent.open ? note() : "",
    h("div", { class: "ll-body" }, h("div", { class: "ll-left" }, stage.element, hasBands(lab.info) && !lab.absent.bands ? new Bands(lab).element : null, actions.element), tabs(lab, "Tools", tools(lab, images))),
    new ShelfView(lab).element,
    actions.codeBox,
    images.file,
    savedPictureHider(lab.model.get("_lab")),
  );
  root.addEventListener("keydown", (event) => pressed(lab, actions, event));
  images.listen(root);
  return root;
}

function describeModel({ model, image, latent, device, dtype, codes }) {
  const numbers = latent.reduce((a, b) => a * b, 1);
  const kind = codes ? `codes from a codebook of ${codes}` : `${numbers} numbers`;
  return `${model} · image ${image[1]}×${image[2]}×${image[0]} → latent ${latent.join("×")} (${kind}) · ${dtype} on ${device}`;
}

// What is shown where no images were given, and how to give some.
function note() {
  const words = ["These are generated circles. See your own images: drop one here, or ", h("code", {}, "LatentLab(model, images)"), "."];
  return h("p", { class: "ll-note" }, ...words);
}

function tools(lab, images) {
  const pages = [
    { key: "map", title: "Map", element: new LatentMap(lab).element, waits: true },
    { key: "sliders", title: "Sliders", element: new Sliders(lab).element, waits: true },
  ];
  if (lab.info.discrete) pages.push({ key: "codes", title: "Codes", element: lab.absent.codes ? h("p", { class: "ll-hint" }, lab.absent.codes) : new Codes(lab).element, waits: false });
  if (!lab.info.flat) pages.push({ key: "brush", title: "Brush", element: new Brush(lab).element, waits: false });
  pages.push(
    { key: "arithmetic", title: "Arithmetic", element: new Arithmetic(lab).element, waits: true },
    { key: "strips", title: "Strips", element: new Strips(lab).element, waits: true },
    { key: "samples", title: "Samples", element: new Samples(lab).element, waits: true },
    { key: "images", title: "Images", element: images.element, waits: true },
  );
  return pages;
}

// The notebook file also holds a still picture, for readers without a kernel. The live lab hides it, and the output that
// holds nothing else; never one further out, such as that of an `ipywidgets.Output` around the lab.
function savedPictureHider(lab) {
  const still = `figure[data-latent-lab-still="${CSS.escape(lab)}"]`;
  const output = ".jp-OutputArea-child:has(> .jp-OutputArea-output >";
  return h("style", {}, `${still}, ${output} ${still}), .output_area:has(> ${still}) { display: none !important; }`);
}

function pressed(lab, actions, event) {
  event.stopPropagation(); // not for the notebook, where keys are shortcuts
  if (!event.ctrlKey && !event.metaKey) return;
  const key = event.key.toLowerCase();
  const typing = event.target.matches("input[type=text], input[type=number], textarea");
  if (key === "s") actions.save("png");
  else if (key === "z" && !typing) lab.act({ do: "undo" });
  else return;
  event.preventDefault();
}
