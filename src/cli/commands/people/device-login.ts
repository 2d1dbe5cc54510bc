/** `slipway login` without a password: a person approves a code in a browser, also on a phone. */
import { setTimeout as delay } from "node:timers/promises";
import { renderUnicodeCompact } from "uqr";
import type { SlipwayClient } from "../../../client/client.ts";
import type { Me } from "../../../client/types.ts";
import { print, untilInterrupted, type Io } from "../../io.ts";
import { stripControls } from "../../terminal/text.ts";

/** Waits until the code is approved; Ctrl-C ends the wait. */
export async function logInByCode(io: Io, server: SlipwayClient): Promise<Me> {
  const started = await server.people.startDevice();
  const { userCode, verificationUrl, verificationUrlComplete } = started;
  const url = stripControls(verificationUrl);
  print(io, `Open ${url} in a browser where you are logged in, and enter the code`);
  print(io, `\n    ${stripControls(userCode)}\n`);
  if (io.out.isTTY) print(io, renderUnicodeCompact(verificationUrlComplete, { border: 2 }));
  print(io, `Waiting; the code is good for ${Math.round(started.expiresIn / 60)} minutes.`);
  return await untilInterrupted(async (signal) => {
    let seconds = started.interval;
    for (;;) {
      await delay(seconds * 1_000, undefined, { signal });
      const polled = await server.pollDeviceLogin(started.deviceCode);
      if (polled.state === "done") return polled.session.user;
      seconds = polled.interval;
    }
  });
}
