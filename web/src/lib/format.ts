/**
 * Numbers, times and names as people read them. Without `Intl`, whose first format of a time takes
 * 0.15 to 0.3 s of a processor that is throttled to a quarter.
 */
import type { SlipwayProblem } from "../../../src/client/problem.ts";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"] as const;
const WEEKDAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"] as const;

const pad = (value: number): string => String(value).padStart(2, "0");

/** `8 s`, `4:12`, `2:07:30`: for something that goes on. */
export function formatElapsed(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / SECOND));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}:${pad(seconds % 60)}`;
  return `${Math.floor(minutes / 60)}:${pad(minutes % 60)}:${pad(seconds % 60)}`;
}

/** `0.9 s`, `21 s`, `4 min 12 s`, `2 h 5 min`: for something that ended. */
export function formatDuration(ms: number): string {
  if (ms > 0 && ms < SECOND / 20) return `${Math.max(1, Math.round(ms))} ms`;
  if (ms < 10 * SECOND) return `${(Math.max(0, ms) / SECOND).toFixed(1)} s`;
  const seconds = Math.round(ms / SECOND);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 === 0 ? `${minutes} min` : `${minutes} min ${seconds % 60} s`;
  return minutes % 60 === 0 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** `2 min`, `3 h`, `Mon`, `12 Mar`: how long ago, or when. */
export function formatAge(at: number, now: number): string {
  const ms = Math.max(0, now - at);
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)} s`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min`;
  if (ms < DAY) return `${Math.floor(ms / HOUR)} h`;
  return ms < 6 * DAY ? (WEEKDAYS[new Date(at).getDay()] ?? "") : formatDay(at);
}

/** `12:04`. */
export function formatClock(at: number): string {
  const date = new Date(at);
  return `${pad(date.getHours())}:${pad(date.getMinutes())}`;
}

/** `28 Nov`. */
export function formatDay(at: number): string {
  const date = new Date(at);
  return `${date.getDate()} ${MONTHS[date.getMonth()]}`;
}

/** `12:04:31`. */
export function formatSecond(at: number): string {
  return `${formatClock(at)}:${pad(new Date(at).getSeconds())}`;
}

export function formatUsd(usd: number): string {
  if (usd >= 0.01 || usd === 0) return `$${usd.toFixed(2)}`;
  return `$${usd.toFixed(usd >= 0.0001 ? 4 : 6)}`;
}

/** `2,143`; for whole numbers. */
export const formatCount = (count: number): string => String(count).replaceAll(/\B(?=(?:\d{3})+$)/g, ",");

export function formatBytes(bytes: number): string {
  if (bytes < 1_000) return `${bytes} B`;
  if (bytes < 1_000_000) return `${(bytes / 1_000).toFixed(1)} kB`;
  if (bytes < 1_000_000_000) return `${(bytes / 1_000_000).toFixed(1)} MB`;
  return `${(bytes / 1_000_000_000).toFixed(1)} GB`;
}

/** The wire counts memory and disks in MiB. */
export const formatMb = (mb: number): string => formatBytes(mb * 2 ** 20);

export function pluralize(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

/** `owner/name` of a repository's URL. */
export function formatRepo(url: string): string {
  return url
    .replace(/\.git$/, "")
    .replace(/^[a-z+]+:\/\/(?:[^@/]*@)?[^/]+\//i, "")
    .replace(/^[^/@:]+@[^:/]+:/, "");
}

/** `1st`, `12th`, `22nd`. */
export function formatOrdinal(position: number): string {
  const isTeen = Math.floor(position / 10) % 10 === 1;
  return `${position}${(isTeen ? undefined : ["th", "st", "nd", "rd"][position % 10]) ?? "th"}`;
}

/** A problem of the server, with the fields that it is about. */
export function formatProblem({ detail, errors }: SlipwayProblem): string {
  return [detail, ...errors.map(({ path, message }) => `${path} ${message}`)].join(" ");
}
