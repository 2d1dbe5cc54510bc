import { expect, it } from "vitest";
import { RateLimited, SlipwayError } from "../../src/core/error.ts";
import { LoginThrottle } from "../../src/http/login-throttle.ts";
import { createManualClock } from "../support/manual-clock.ts";

const MINUTE = 60_000;
const wrong = (): Promise<never> => Promise.reject(new SlipwayError("invalid_credentials"));

/**
 * Tries a wrong password. @returns the seconds to wait when the attempt was rejected, else null.
 */
async function guess(throttle: LoginThrottle, ip: string, account: string | null): Promise<number | null> {
  return throttle.attempt("login", ip, account, wrong).catch((error: unknown) => {
    return error instanceof RateLimited ? error.retryAfterSeconds : null;
  });
}

it("[H4] one blocked address cannot reset its own count with invented accounts", async () => {
  const throttle = new LoginThrottle(createManualClock());
  for (let n = 0; n < 10; n++) expect(await guess(throttle, "192.0.2.1", `user${n}`)).toBeNull();
  for (let n = 0; n < 25_000; n++) expect(await guess(throttle, "192.0.2.1", `invented${n}`)).toBe(60);
});

it("[H4] many addresses and accounts cannot reset a count, whether it blocks yet or not", async () => {
  const clock = createManualClock();
  const throttle = new LoginThrottle(clock);
  for (let n = 0; n < 10; n++) await guess(throttle, "192.0.2.1", null);
  for (let n = 0; n < 9; n++) await guess(throttle, "192.0.2.2", null);
  for (let n = 0; n < 4; n++) await guess(throttle, "192.0.2.3", "owner@example.com");
  for (let n = 0; n < 21_000; n++) await guess(throttle, `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`, `other${n}`);
  expect(await guess(throttle, "192.0.2.1", null)).toBe(60);
  expect(await guess(throttle, "192.0.2.2", null)).toBeNull();
  expect(await guess(throttle, "192.0.2.2", null)).toBe(60);
  expect(await guess(throttle, "192.0.2.3", "owner@example.com")).toBeNull();
  expect(await guess(throttle, "192.0.2.3", "owner@example.com")).toBe(1);
  await clock.advance(MINUTE);
  expect(await guess(throttle, "192.0.2.1", null)).toBeNull();
});

it("[H4] the memory of counts is bounded, and keys that find it full share counts", async () => {
  const throttle = new LoginThrottle(createManualClock());
  let refused = 0;
  for (let n = 0; n < 22_000; n++)
    if ((await guess(throttle, `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`, null)) !== null) refused++;
  // 10,000 have a count of their own; the others share 1,024, each of which blocks at 10.
  expect(refused).toBeGreaterThan(22_000 - 10_000 - 1_024 * 10 - 1);
});

it("[H4] addresses of one IPv6 /64 share a count, those of one /48 a larger one, other networks do not", async () => {
  const throttle = new LoginThrottle(createManualClock());
  for (let n = 0; n < 10; n++) expect(await guess(throttle, `2001:db8:1:2::${n + 1}`, null)).toBeNull();
  expect(await guess(throttle, "2001:db8:1:2:ffff::1", null)).toBe(60);
  expect(await guess(throttle, "2001:db8:1:3::1", null)).toBeNull();
  expect(await guess(throttle, "::ffff:192.0.2.1", null)).toBeNull();
  for (let n = 0; n < 39; n++) expect(await guess(throttle, `2001:db8:1:${n + 16}::1`, null)).toBeNull();
  expect(await guess(throttle, "2001:db8:1:ffff::1", null)).toBe(60);
  expect(await guess(throttle, "2001:db8:2::1", null)).toBeNull();
});

it("[H4] where an account is guessed, its delay doubles with each failure up to five minutes", async () => {
  const clock = createManualClock();
  const throttle = new LoginThrottle(clock);
  const next = (): Promise<number | null> => guess(throttle, "198.51.100.7", "ada@example.com");
  for (let n = 0; n < 5; n++) expect(await next()).toBeNull();
  await clock.advance(MINUTE);
  for (const seconds of [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]) {
    expect(await next()).toBeNull();
    expect(await next()).toBe(seconds);
    await clock.advance(Math.max(seconds * 1_000, 10_000));
  }
});

it("[H4] nobody keeps an owner out from elsewhere, however many guess and however long", async () => {
  const clock = createManualClock();
  const throttle = new LoginThrottle(clock);
  for (let second = 0; second < 240; second++) {
    for (let n = 0; n < 20; n++) await guess(throttle, `203.0.113.${n}`, "owner@example.com");
    expect(await throttle.attempt("login", "192.0.2.1", "owner@example.com", () => Promise.resolve("in"))).toBe("in");
    await clock.advance(1_000);
  }
});

it("[H4] who logged in at an address before gets in there while others guess other accounts", async () => {
  const throttle = new LoginThrottle(createManualClock());
  const enter = (account: string): Promise<string> =>
    throttle.attempt("login", "172.17.0.1", account, () => Promise.resolve("in"));
  await enter("owner@example.com");
  for (let n = 0; n < 11; n++) await guess(throttle, "172.17.0.1", `invented${n}`);
  expect(await enter("Owner@example.com")).toBe("in");
  await expect(enter("newcomer@example.com")).rejects.toBeInstanceOf(RateLimited);
  for (let n = 0; n < 5; n++) expect(await guess(throttle, "172.17.0.1", "owner@example.com")).toBeNull();
  expect(await guess(throttle, "172.17.0.1", "owner@example.com")).toBe(1);
});
