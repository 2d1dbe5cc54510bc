/** Light, dark, or as the system; kept per device. */
export type Theme = "" | "light" | "dark";
const KEY = "slipway.theme";

export function readTheme(): Theme {
  try {
    const stored = localStorage.getItem(KEY);
    return stored === "light" || stored === "dark" ? stored : "";
  } catch {
    return "";
  }
}

export function applyTheme(theme: Theme): void {
  if (theme === "") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
}

export function writeTheme(theme: Theme): void {
  applyTheme(theme);
  try {
    if (theme === "") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
  } catch {
    // The choice then lasts as long as the page.
  }
}
