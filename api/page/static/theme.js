// Light, dark, or the system's theme. A classic script in <head>, so that the page is never painted in the wrong theme.
(() => {
  const KEY = "darkroom-theme";
  const root = document.documentElement;
  const set = (theme) => {
    root.dataset.theme = theme;
    root.style.colorScheme = theme === "auto" ? "light dark" : theme;
  };
  let stored = "auto";
  try {
    stored = localStorage.getItem(KEY) ?? "auto";
  } catch {
    // Storage may be forbidden; the page works without.
  }
  set(["light", "dark"].includes(stored) ? stored : "auto");
  window.darkroomTheme = {
    current: () => root.dataset.theme,
    set(theme) {
      set(theme);
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // As above.
      }
    },
  };
})();
