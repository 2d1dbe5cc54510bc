import { afterEach, describe, expect, it } from "vitest";
import { SlipwayClient, type Session, type SessionStore, type TokenProvider } from "../../src/client/index.ts";
import { openMisbehavingServer, type Handler, type MisbehavingServer } from "./misbehaving-server.ts";

let stage: MisbehavingServer | undefined;
afterEach(async () => {
  await stage?.close();
  stage = undefined;
});

async function open(
  handler: Handler,
  options: { token?: string; sessions?: SessionStore; tokens?: TokenProvider; retries?: number } = { token: "slp_x" },
) {
  stage = await openMisbehavingServer(handler);
  return new SlipwayClient({ baseUrl: `${stage.url}/`, ...options });
}

const made = { status: 201, body: { id: "task_1" } };

describe("retries", () => {
  it("[R5] sends a lost submit again under the same key", async () => {
    const client = await open((_seen, index) => {
      if (index === 0) return "drop";
      if (index === 1) return { status: 503, body: { code: "unavailable", detail: "Not now." } };
      return made;
    });
    expect((await client.submit({ repo: "https://x/y.git", prompt: "p" })).id).toBe("task_1");
    const keys = stage?.seen.map(({ key }) => key);
    expect(keys).toHaveLength(3);
    expect(new Set(keys).size).toBe(1);
    expect(keys?.[0]).toMatch(/^[0-9a-f]{32}$/);
    await client.submit({ repo: "https://x/y.git", prompt: "p" });
    expect(stage?.seen.at(-1)?.key).not.toBe(keys?.[0]);
    await client.submit({ repo: "https://x/y.git", prompt: "p" }, { idempotencyKey: "mine" });
    expect(stage?.seen.at(-1)?.key).toBe("mine");
  });

  it("[P21] a call that waits for its next try ends with its session", async () => {
    const session = new AbortController();
    const reason = new Error("logged out");
    const tokens = {
      bearer: async () => "first",
      renew: async () => "of another person",
      signal: () => session.signal,
    };
    const client = await open(
      (_seen, index) => {
        if (index > 0) return made;
        setImmediate(() => session.abort(reason));
        return { status: 429, body: { code: "rate_limited" }, headers: { "retry-after": "60" } };
      },
      { tokens },
    );
    await expect(client.submit({ repo: "https://x/y.git", prompt: "p" })).rejects.toBe(reason);
    expect(stage?.seen).toHaveLength(1);
  });

  it("[R5] a used-up quota is not asked again", async () => {
    const client = await open(() => ({ status: 429, body: { code: "quota_exceeded", detail: "No room." } }));
    await expect(client.submit({ repo: "https://x/y.git", prompt: "p" })).rejects.toMatchObject({
      code: "quota_exceeded",
    });
    expect(stage?.seen).toHaveLength(1);
  });

  it("waits as long as it was asked to", async () => {
    const client = await open((_seen, index) =>
      index === 0
        ? { status: 429, body: { code: "rate_limited", detail: "Slow down." }, headers: { "retry-after": "1" } }
        : made,
    );
    const began = performance.now();
    await client.submit({ repo: "https://x/y.git", prompt: "p" });
    expect(performance.now() - began).toBeGreaterThan(950);
  });

  it("[R5] each call that changes something is sent again under its own key when its answer was lost", async () => {
    const client = await open((_seen, index) => (index % 2 === 0 ? "drop" : { status: 200, body: {} }));
    const calls = [
      () => client.login("a@example.com", "secret"),
      () => client.setUp("token", "a@example.com", "secret"),
      () => client.ticket(),
      () => client.createToken({ name: "ci" }),
      () => client.deleteToken("tok_1"),
      () => client.putCredential({ host: "h", kind: "token", token: "t" }),
      () => client.deleteCredential("cred_1"),
      () => client.createUser({ email: "b@example.com", password: "secret", role: "user" }),
      () => client.submit({ repo: "https://x/y.git", prompt: "p" }),
      () => client.cancel("task_1"),
      () => client.retry("task_1"),
      () => client.message("task_1", { text: "hi" }),
      () => client.withdraw("task_1", "msg_1"),
      () => client.answer("task_1", { questionId: "q", text: "yes" }),
      () => client.pauseQueue(true),
      () => client.changeEgress({}),
      () => client.gc(),
      () => client.kill("task_1"),
      () => client.logout(),
    ];
    for (const call of calls) await call();
    const seen = stage?.seen ?? [];
    expect(seen).toHaveLength(2 * calls.length);
    const keys = seen.map(({ key }) => key);
    expect(keys.filter((_, i) => i % 2 === 0)).toEqual(keys.filter((_, i) => i % 2 === 1));
    expect(new Set(keys).size).toBe(calls.length);
    expect(keys).not.toContain(undefined);
  });

  it("a session that has ended at the server is logged out here", async () => {
    const client = await open(({ path }) =>
      path.endsWith("/login")
        ? { status: 200, body: { accessToken: "a", refreshToken: "r" } }
        : { status: 401, body: { code: "unauthenticated", detail: "Log in." } },
    );
    await client.login("a@example.com", "secret");
    await client.logout();
    expect(await client.session()).toBeNull();
  });

  it("never repeats what the server refused", async () => {
    const client = await open(() => ({ status: 409, body: { code: "task_settled", detail: "It is settled." } }));
    await expect(client.cancel("task_1")).rejects.toMatchObject({
      code: "task_settled",
      status: 409,
      detail: "It is settled.",
    });
    expect(stage?.seen).toHaveLength(1);
  });

  it("after its last retry a call throws the server's last problem", async () => {
    const client = await open(() => ({ status: 503, body: { code: "unavailable", detail: "Not now." } }), {
      token: "slp_x",
      retries: 2,
    });
    await expect(client.task("task_1")).rejects.toMatchObject({ code: "unavailable", detail: "Not now." });
    expect(stage?.seen).toHaveLength(3);
  });

  it("every error response becomes a SlipwayProblem", async () => {
    const client = await open(() => ({ status: 418 }));
    await expect(client.task("task_1")).rejects.toMatchObject({ code: "http_418", status: 418 });
  });
});

function keeper(first: Session | null): SessionStore & { session: Session | null } {
  return {
    session: first,
    load() {
      return this.session;
    },
    save(session) {
      this.session = session;
    },
  };
}

describe("sessions", () => {
  const guarded =
    (good: { token: string }): Handler =>
    ({ path, token, body }) => {
      if (path === "/v1/auth/refresh") {
        const { refreshToken } = body as { refreshToken: string };
        if (refreshToken !== "r1") return { status: 401, body: { code: "unauthenticated", detail: "Reused." } };
        good.token = "a2";
        return { status: 200, body: { accessToken: "a2", refreshToken: "r2", expiresIn: 900, user: {} } };
      }
      if (token !== good.token) return { status: 401, body: { code: "unauthenticated", detail: "Log in." } };
      return { status: 200, body: { id: "user_1" } };
    };

  it("renews once for calls that run at the same time, and keeps the new pair", async () => {
    const sessions = keeper({ accessToken: "a1", refreshToken: "r1" });
    const client = await open(guarded({ token: "none" }), { sessions });
    const answers = await Promise.all([client.me(), client.me(), client.me()]);
    expect(answers.map(({ id }) => id)).toEqual(["user_1", "user_1", "user_1"]);
    expect(stage?.seen.filter(({ path }) => path === "/v1/auth/refresh")).toHaveLength(1);
    expect(sessions.session).toEqual({ accessToken: "a2", refreshToken: "r2" });
  });

  it("uses what another program renewed instead of spending a spent token", async () => {
    const sessions = keeper({ accessToken: "a0", refreshToken: "r0" });
    const client = await open(guarded({ token: "a9" }), { sessions });
    await expect(client.me()).rejects.toMatchObject({ code: "unauthenticated" });
    sessions.session = { accessToken: "a9", refreshToken: "r9" };
    expect((await client.me()).id).toBe("user_1");
    expect(stage?.seen.filter(({ path }) => path === "/v1/auth/refresh")).toHaveLength(1);
  });

  it("forgets the session on logout, and keeps it on login", async () => {
    const sessions = keeper(null);
    const client = await open(
      ({ path }) =>
        path === "/v1/auth/login"
          ? {
              status: 200,
              body: {
                accessToken: "a1",
                refreshToken: "r1",
                expiresIn: 900,
                user: { id: "user_1", email: "a@b.c", role: "user" },
              },
            }
          : { status: 204 },
      { sessions },
    );
    await client.login("a@b.c", "secret");
    expect(sessions.session).toEqual({ accessToken: "a1", refreshToken: "r1" });
    await client.logout();
    expect(sessions.session).toBeNull();
    expect(stage?.seen.at(-1)).toMatchObject({ path: "/v1/auth/logout", token: "a1" });
  });
});

describe("shapes", () => {
  it("encodes ids and leaves out what was not asked", async () => {
    const client = await open(() => ({ status: 200, body: { items: [], next: null } }));
    await client.tasks({ state: ["queued", "running"], q: "a&b" });
    expect(stage?.seen.at(-1)?.query.toString()).toBe("q=a%26b&state=queued%2Crunning");
    await client.events("../users", { after: 3 });
    expect(stage?.seen.at(-1)?.path).toBe("/v1/tasks/..%2Fusers/events");
  });

  it("a queued message and a follow-up task are distinguished by kind", async () => {
    const client = await open((_seen, index) =>
      index === 0 ? { status: 202, body: { id: "m1", status: "queued" } } : { status: 201, body: { id: "task_2" } },
    );
    expect(await client.message("task_1", { text: "hi" })).toEqual({
      kind: "queued",
      message: { id: "m1", status: "queued" },
    });
    expect(await client.message("task_1", { text: "hi" })).toEqual({ kind: "follow_up", task: { id: "task_2" } });
  });
});
