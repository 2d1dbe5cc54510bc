/** Modules of the app in a page that has nothing else. */
import { join } from "node:path";
import { build } from "esbuild";
import { launchBrowser, openPage } from "./browser.ts";

const ROOT = join(import.meta.dirname, "../../..");

/** @param modules of web/src. @param name of the object that has their exports, for the script. */
export async function runWithModules<T>(modules: readonly string[], name: string, script: string): Promise<T> {
  const lines = modules.map((path) => `export * from "./web/src/${path}";`);
  const { outputFiles } = await build({
    stdin: { contents: lines.join("\n"), resolveDir: ROOT, loader: "ts" },
    bundle: true,
    format: "iife",
    globalName: name,
    write: false,
  });
  const browser = await launchBrowser();
  try {
    const { page } = await openPage(browser);
    await page.route("http://localhost:9/", (route) => route.fulfill({ body: "<p>x", contentType: "text/html" }));
    await page.goto("http://localhost:9/");
    await page.addScriptTag({ content: outputFiles[0]!.text });
    return await page.evaluate<T>(script);
  } finally {
    await browser.close();
  }
}
