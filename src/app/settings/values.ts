/** How the values of settings are written, as schemas. */
import { z } from "zod";
import { parseGitIdentity } from "../../core/values/git-identity.ts";
import { parseImageRule } from "../../core/values/image-reference.ts";
import type { SettingName } from "../options.ts";

/**
 * Reads one setting; null = it is not given.
 *
 * @throws SlipwayError `config_invalid` with a sentence that names it and what it must be.
 */
export type Read = <T>(name: SettingName, schema: z.ZodType<T, string>, expects: string) => T | null;

export const whole = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d{1,9}$/)
    .transform(Number)
    .pipe(z.int().min(min).max(max));
export const dollars = z
  .string()
  .regex(/^\d{1,7}(?:\.\d{1,4})?$/)
  .transform(Number);
/** What a submission may name as a budget. */
export const budgetDollars = dollars.pipe(z.number().positive().max(10_000));
export const factor = z
  .string()
  .regex(/^\d{1,3}(?:\.\d{1,2})?$/)
  .transform(Number)
  .pipe(z.number().min(1).max(100));
export const hostName = /^(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])$/i;
export const gitAuthor = z.string().transform((text, context) => {
  const identity = text.trim() === "person" ? ("person" as const) : parseGitIdentity(text);
  if (identity === null) context.addIssue({ code: "custom", message: "is not an identity" });
  return identity ?? z.NEVER;
});
export const hostAndPort = z
  .string()
  .toLowerCase()
  .refine((text) => {
    const port = /:(\d{1,5})$/.exec(text);
    return hostName.test(port ? text.slice(0, port.index) : text) && (port === null || Number(port[1]) <= 65_535);
  });
export const IMAGES =
  "a comma-separated list of images, or of beginnings that name a registry and end in *, such as node:24,ghcr.io/acme/*";
export const imageRule = z.string().transform((text, context) => {
  const rule = parseImageRule(text);
  if (rule !== null) return rule;
  context.addIssue({ code: "custom", message: "not an image" });
  return z.NEVER;
});
export const webUrl = z.string().refine((text) => {
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  return (
    ["http:", "https:"].includes(url.protocol) &&
    url.username === "" &&
    url.password === "" &&
    url.search === "" &&
    url.hash === ""
  );
});
export const trimSlash = (text: string): string => text.replace(/\/+$/, "");
export const origin = webUrl
  .refine((text) => URL.canParse(text) && new URL(text).pathname === "/")
  .transform((text) => new URL(text).origin);
/** The pages of these shells of native apps have an origin of their own. */
const NATIVE_SHELLS = ["capacitor://localhost", "ionic://localhost", "tauri://localhost"] as const;
export const allowedOrigin = z.union([z.enum(NATIVE_SHELLS), origin]);
export const list = <T extends z.ZodType<unknown, string>>(item: T) =>
  z
    .string()
    .transform((text) =>
      text
        .split(",")
        .map((part) => part.trim())
        .filter((part) => part !== ""),
    )
    .pipe(z.array(item));
