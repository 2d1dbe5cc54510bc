/**
 * Draws the icons of the installed app from web/public/icons/icon.svg with Chromium, into the same
 * folder. The images are committed; run it again after a change of the drawing.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const folder = join(fileURLToPath(new URL("..", import.meta.url)), "web", "public", "icons");
const svg = readFileSync(join(folder, "icon.svg"), "utf8");
const INK = "#13171d";
/** Systems crop maskable icons to their own shapes, so the mark stays within 80 % of the width. */
const square = svg.replace(/<rect[^>]*\/>/, "");
/** The mark in a status bar: only its transparency is used. */
const mark = square.replaceAll(/#[0-9a-f]{3,6}/g, "#fff");

const ICONS = [
  { name: "icon-192.png", size: 192, drawing: svg, background: "transparent", share: 1 },
  { name: "icon-512.png", size: 512, drawing: svg, background: "transparent", share: 1 },
  { name: "maskable-512.png", size: 512, drawing: square, background: INK, share: 0.86 },
  { name: "apple-touch-icon.png", size: 180, drawing: square, background: INK, share: 0.92 },
  { name: "badge-96.png", size: 96, drawing: mark, background: "transparent", share: 1.05 },
];

const browser = await chromium.launch({
  executablePath: process.env["SLIPWAY_CHROMIUM"] ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu"],
});
const page = await browser.newPage();
for (const { name, size, drawing, background, share } of ICONS) {
  await page.setViewportSize({ width: size, height: size });
  const side = Math.round(size * share);
  const sized = drawing.replace("<svg ", `<svg width="${side}" height="${side}" `);
  await page.setContent(
    `<style>*{margin:0}body{display:grid;place-items:center;block-size:${size}px;overflow:hidden;background:${background}}</style>${sized}`,
  );
  writeFileSync(join(folder, name), await page.screenshot({ omitBackground: true }));
}
await browser.close();
