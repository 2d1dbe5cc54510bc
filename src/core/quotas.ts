/** How much one person may use (rule S14). */
import { z } from "zod";

const amount = z.int().min(0).max(1_000_000).nullable();
const dollars = z.number().min(0).max(1_000_000).nullable();

/** Null = no limit. */
export const quotasSchema = z.strictObject({
  tasksPerMinute: amount.describe("Tasks that may be begun in 60 seconds."),
  tasksPerDay: amount.describe("Tasks that may be begun in 24 hours."),
  openTasks: amount.describe("Tasks that are not settled, at once."),
  searchesPerMinute: amount.describe("Searches in the list of tasks in 60 seconds."),
  storageMb: amount.describe("What is stored for the person on this server, MiB: see `storage` of the usage."),
  dayUsd: dollars.describe("Model budget per UTC day, US dollars."),
  monthUsd: dollars.describe("Model budget per UTC month, US dollars."),
});
export type Quotas = z.infer<typeof quotasSchema>;
export type QuotaName = keyof Quotas;

export interface QuotaSettings {
  /** Of everybody who has no other. */
  readonly quotas: Readonly<Omit<Quotas, "dayUsd">>;
  /** Model budget per UTC day of each person who has no other, US dollars; null = no limit. */
  readonly userDayUsd: number | null;
}

export const NO_QUOTAS: QuotaSettings["quotas"] = {
  tasksPerMinute: null,
  tasksPerDay: null,
  openTasks: null,
  searchesPerMinute: null,
  storageMb: null,
  monthUsd: null,
};

/** Suits a team of ten. */
export const DEFAULT_QUOTAS: QuotaSettings["quotas"] = {
  tasksPerMinute: 60,
  tasksPerDay: 1_000,
  openTasks: 200,
  searchesPerMinute: 120,
  storageMb: 20_480,
  monthUsd: null,
};

interface SettingReader {
  setting(key: string): Promise<string | null>;
}

export const quotaKey = (userId: string): string => `quotas ${userId}`;

/** Quotas by name; those that are absent stay as they are. */
export type SomeQuotas = { readonly [name in QuotaName]?: number | null | undefined };

/** What an admin set for the person alone. */
export async function readOwnQuotas(store: SettingReader, userId: string): Promise<SomeQuotas> {
  const stored = await store.setting(quotaKey(userId));
  // A newer version may have written names that this one does not know.
  const read = stored === null ? null : z.object(quotasSchema.shape).partial().safeParse(JSON.parse(stored));
  return read?.success === true ? read.data : {};
}

export async function readQuotas(
  store: SettingReader,
  { quotas, userDayUsd }: QuotaSettings,
  userId: string,
): Promise<Quotas> {
  const own = Object.entries(await readOwnQuotas(store, userId)).filter(([, limit]) => limit !== undefined);
  return { ...quotas, dayUsd: userDayUsd, ...Object.fromEntries(own) };
}

const DAY_MS = 24 * 3_600_000;

/** Of the UTC day, epoch ms. */
export function startOfDay(now: number): number {
  return Math.floor(now / DAY_MS) * DAY_MS;
}

/** Of the UTC month, epoch ms. */
export function startOfMonth(now: number): number {
  const date = new Date(now);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1);
}
