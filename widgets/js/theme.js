// Tells the lab when the host's theme changes, which shows in attributes of the page.
export function watchTheme(lab) {
  const changed = () => lab.emit("theme");
  const observer = new MutationObserver(changed);
  const options = { attributes: true, attributeFilter: ["class", "data-jp-theme-light", "data-jp-theme-name", "data-vscode-theme-id", "style"] };
  for (const element of [document.documentElement, document.body]) observer.observe(element, options);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", changed);
  lab.onClose(() => {
    observer.disconnect();
    dark.removeEventListener("change", changed);
  });
}
