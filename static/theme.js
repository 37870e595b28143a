// Loaded before the first paint, as a classic script, so that a remembered theme does not flash.
{
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const announce = () => dispatchEvent(new Event("themechange"));
  let remembered = null;
  try {
    remembered = localStorage.getItem("theme");
  } catch {
    // Storage may be forbidden; the theme then lasts for this visit.
  }
  if (remembered) root.dataset.theme = remembered;
  system.addEventListener("change", announce);

  globalThis.toggleTheme = () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
    root.dataset.theme = dark ? "light" : "dark";
    try {
      localStorage.setItem("theme", root.dataset.theme);
    } catch {
      // As above.
    }
    announce();
  };
}
