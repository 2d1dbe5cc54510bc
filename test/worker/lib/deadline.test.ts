import { expect, it } from "vitest";
import { Absence } from "../../../worker/connection/absence.ts";
import { Deadline } from "../../../worker/lib/deadline.ts";
import { createManualClock } from "../../support/manual-clock.ts";

const SECOND = 1_000;

function open(ms: number) {
  const clock = createManualClock();
  const absence = new Absence(() => clock.monotonic());
  const contact = {
    get awayMs() {
      return absence.totalMs;
    },
    reach: () => Promise.resolve(),
  };
  let expiredAt: number | null = null;
  const deadline = new Deadline(clock, contact, ms, () => (expiredAt = clock.monotonic()));
  return {
    clock,
    absence,
    deadline,
    expired: () => expiredAt,
    leave: () => {
      absence.onFailure(clock.monotonic());
    },
    comeBack: () => {
      absence.onAnswer(clock.monotonic(), false);
    },
  };
}

it("[D11] the time without a coordinator does not count towards the worker's limit", async () => {
  const { clock, deadline, expired, leave, comeBack } = open(60 * SECOND);
  deadline.start();
  await clock.advance(10 * SECOND);
  leave();
  await clock.advance(30 * SECOND);
  comeBack();
  await clock.advance(49 * SECOND);
  expect(expired()).toBeNull();
  await clock.advance(2 * SECOND);
  expect(expired()).toBe(90 * SECOND);
});

it("[D11] a stop keeps what is left, whatever the wall clock says", async () => {
  const { clock, deadline, expired } = open(60 * SECOND);
  deadline.start();
  await clock.advance(20 * SECOND);
  clock.setWall(3_600_000);
  deadline.stop();
  await clock.advance(100 * SECOND);
  deadline.start();
  await clock.advance(39 * SECOND);
  expect(expired()).toBeNull();
  await clock.advance(2 * SECOND);
  expect(expired()).toBe(160 * SECOND);
});

it("[D11] an answer that comes late is an absence, and no time is counted twice", async () => {
  const { clock, absence } = open(1);
  const [poll, batch] = [clock.monotonic(), clock.monotonic()];
  await clock.advance(9 * SECOND);
  absence.onAnswer(poll, true);
  expect(absence.totalMs).toBe(0);
  absence.onAnswer(batch, false);
  absence.onAnswer(batch, false);
  expect(absence.totalMs).toBe(9 * SECOND);
  absence.onFailure(clock.monotonic());
  absence.onFailure(batch);
  await clock.advance(5 * SECOND);
  expect(absence.totalMs).toBe(14 * SECOND);
  absence.onAnswer(clock.monotonic(), true);
  await clock.advance(5 * SECOND);
  expect(absence.totalMs).toBe(14 * SECOND);
});
