import { expect, it } from "vitest";
import { SlipwayError } from "../../src/core/error.ts";
import { LoginThrottle, RateLimited } from "../../src/http/login-throttle.ts";
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

it("[S7] one blocked address cannot reset its own count with invented accounts", async () => {
  const throttle = new LoginThrottle(createManualClock());
  for (let n = 0; n < 10; n++) expect(await guess(throttle, "192.0.2.1", `user${n}`)).toBeNull();
  for (let n = 0; n < 25_000; n++) expect(await guess(throttle, "192.0.2.1", `invented${n}`)).toBe(60);
});

it("[S7] many addresses cannot reset a count that is blocking", async () => {
  const clock = createManualClock();
  const throttle = new LoginThrottle(clock);
  for (let n = 0; n < 10; n++) await guess(throttle, "192.0.2.1", null);
  for (let n = 0; n < 5; n++) await guess(throttle, `192.0.2.${n + 2}`, "owner@example.com");
  for (let n = 0; n < 21_000; n++) await guess(throttle, `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`, `other${n}`);
  expect(await guess(throttle, "192.0.2.1", null)).toBe(60);
  expect(await guess(throttle, "192.0.2.9", "owner@example.com")).toBe(1);
  await clock.advance(MINUTE);
  expect(await guess(throttle, "192.0.2.1", null)).toBeNull();
});

it("[S7] addresses of one IPv6 /64 share a count, other networks do not", async () => {
  const throttle = new LoginThrottle(createManualClock());
  for (let n = 0; n < 10; n++) expect(await guess(throttle, `2001:db8:1:2::${n + 1}`, null)).toBeNull();
  expect(await guess(throttle, "2001:db8:1:2:ffff::1", null)).toBe(60);
  expect(await guess(throttle, "2001:db8:1:3::1", null)).toBeNull();
  expect(await guess(throttle, "::ffff:192.0.2.1", null)).toBeNull();
});

it("[S7] the delay of an account doubles with each failure up to five minutes", async () => {
  const clock = createManualClock();
  const throttle = new LoginThrottle(clock);
  let address = 0;
  const next = (): Promise<number | null> => guess(throttle, `198.51.100.${address++}`, "ada@example.com");
  for (let n = 0; n < 5; n++) expect(await next()).toBeNull();
  for (const seconds of [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]) {
    expect(await next()).toBe(seconds);
    await clock.advance(seconds * 1_000);
    expect(await next()).toBeNull();
  }
});
