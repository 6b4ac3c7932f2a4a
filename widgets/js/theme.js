// The host's theme is in attributes of its page.
export function watchTheme(lab) {
  const observer = new MutationObserver(() => lab.emit("theme"));
  const options = { attributes: true, attributeFilter: ["class", "data-jp-theme-light", "data-jp-theme-name", "data-vscode-theme-id", "style"] };
  for (const element of [document.documentElement, document.body]) observer.observe(element, options);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const changed = () => lab.emit("theme");
  dark.addEventListener("change", changed);
  return () => {
    observer.disconnect();
    dark.removeEventListener("change", changed);
  };
}
