/** Ports for programs that cannot choose one themselves, or that keep theirs over a restart. */
import { randomInt } from "node:crypto";
import { createServer } from "node:net";

/** Below those that kernels give to connections and to servers that take any. */
const [FIRST, LAST] = [20_000, 32_000];

/** A port that is free, and stays so: it is given only to those who ask for its number. */
export async function findFixedPort(): Promise<number> {
  for (;;) {
    const port = randomInt(FIRST, LAST);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false)).listen(port, () => resolve(true));
    });
    if (!isFree) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}
