/** The number on the icon of the installed app: how many tasks wait for an answer of the person. */

let shown: number | null = null;

/** Not every browser has it, and none shows it before the app is installed. */
export function showOnIcon(count: number): void {
  if (count === shown || !("setAppBadge" in navigator)) return;
  shown = count;
  navigator.setAppBadge(count).catch(() => undefined);
}
