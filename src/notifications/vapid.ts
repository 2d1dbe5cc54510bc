/** The keys that sign push messages (VAPID): made at the first start, kept in the data folder. */
import { join } from "node:path";
import { z } from "zod";
import { SlipwayError } from "../core/error.ts";
import { assertPrivate, readIfExists, replaceFile } from "../core/lib/runtime/replace-file.ts";

const keysSchema = z.object({ publicKey: z.string().length(87), privateKey: z.string().length(43) });
export type VapidKeys = Readonly<z.infer<typeof keysSchema>>;

/**
 * Subscriptions are bound to the public key, so the file is never replaced unless it is empty, as
 * after a full disk.
 * @throws SlipwayError config_invalid when it holds something else, or others can read it.
 */
export async function loadVapidKeys(dir: string): Promise<VapidKeys> {
  const file = join(dir, "vapid.json");
  const existing = readIfExists(file)?.trim() ?? "";
  if (existing !== "") {
    assertPrivate(file);
    return parseKeys(existing, file);
  }
  const { default: webPush } = await import("web-push");
  const keys = webPush.generateVAPIDKeys();
  replaceFile(file, `${JSON.stringify(keys)}\n`);
  return keys;
}

function parseKeys(text: string, file: string): VapidKeys {
  try {
    return keysSchema.parse(JSON.parse(text));
  } catch {
    throw new SlipwayError(
      "config_invalid",
      `${file} does not hold the keys of push messages. Restore it from a backup; if you delete it, every device must turn notifications on again.`,
    );
  }
}
