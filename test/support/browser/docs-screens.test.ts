/**
 * Makes pictures of docs/screens again, of the app as it is: `SLIPWAY_SCREENS=1 npm test --
 * test/support/browser/docs-screens.test.ts`. Who changes a screen looks at them and commits them.
 */
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, it } from "vitest";
import { describeWithBrowser, NARROW, WIDE } from "./browser.ts";
import { openWebRig, type WebRig } from "./rig.ts";

const IS_WANTED = process.env["SLIPWAY_SCREENS"] === "1";
const SCREENS = join(import.meta.dirname, "../../../docs/screens");

const BEFORE = `import { pool } from "./db.ts";

export async function refund(orderId: string, cents: number) {
  const order = await pool.one("SELECT * FROM orders WHERE id = $1", [orderId]);
  if (order.refunded + cents > order.paid) throw new RangeError("more than was paid");
  await pool.query("INSERT INTO refunds (order_id, cents) VALUES ($1, $2)", [orderId, cents]);
}
`;
const AFTER = `import { pool } from "./db.ts";

/** The same key is the same refund, however often it is sent. */
export async function refund(orderId: string, cents: number, key: string) {
  return pool.transaction(async (tx) => {
    const order = await tx.one("SELECT * FROM orders WHERE id = $1 FOR UPDATE", [orderId]);
    const known = await tx.maybeOne("SELECT * FROM refunds WHERE key = $1", [key]);
    if (known !== null) return known;
    if (order.refunded + cents > order.paid) throw new RangeError("more than was paid");
    return tx.one("INSERT INTO refunds (order_id, cents, key) VALUES ($1, $2, $3) RETURNING *", [orderId, cents, key]);
  });
}
`;
const TEST = `it("two refunds at once with one key are one", async () => {
  const both = await Promise.all([refund("o1", 500, "k"), refund("o1", 500, "k")]);
  expect(new Set(both.map(({ id }) => id)).size).toBe(1);
});
`;
const TODO = ["Find who writes refunds", "Lock the order", "Store the key", "Test two refunds at once"];

const todo = (done: number, isRunning: boolean): object => ({
  todo: TODO.map((text, i) => ({
    text,
    status: i < done ? "completed" : i === done && isRunning ? "in_progress" : "pending",
  })),
});
const write = (path: string, content: string): object => ({ write: { path, content } });
const finish = (title: string, summary: string): object => ({ finish: { title, summary } });

/** A page of an invoice, as a test of an app would keep it. */
const invoice = (logo: string, top: number): string => `<body style="margin:0;font:15px sans-serif;background:#fff">
  <div style="padding:${top}px 24px;inline-size:272px"><b style="color:${logo};font-size:22px">acme</b>
  <h3>Invoice 001</h3><p>2 x Voucher ........ 40.00</p><p>1 x Mug ............... 12.50</p><hr><b>Total 52.50</b></div>`;

const describeIt = IS_WANTED ? describeWithBrowser : describe.skip;
describeIt(`pictures of the docs${IS_WANTED ? "" : " (skipped: SLIPWAY_SCREENS is not 1)"}`, () => {
  let rig: WebRig;
  let refunds: string;
  let picture: string;
  let asks: string;
  let runs: string;
  let stopped: string;

  async function draw(html: string): Promise<string> {
    const { page } = await rig.open({ viewport: { width: 320, height: 260 } });
    await page.setContent(html);
    return (await page.screenshot()).toString("base64");
  }

  const end = (id: string, state = "done") => rig.until(id, (task) => task.state === state, state);

  beforeAll(async () => {
    rig = await openWebRig({}, "acme/orders-api");
    rig.upstream.commitOn("acme/orders-api", "main", { "src/refunds.ts": BEFORE });
    const [old, now] = [await draw(invoice("#1d4ed8", 16)), await draw(invoice("#0f766e", 22))];
    const save = (content: string): object => ({
      bash: `mkdir -p test && echo ${content} | base64 -d > test/invoice-001.png`,
    });
    const first = await rig.submit("Keep a snapshot of the invoice", [
      save(old),
      finish("t", "A snapshot of the invoice."),
    ]);
    const { branch } = await end(first);
    picture = await rig.submit(
      "Use the new logo on invoices",
      [save(now), { usage: { usd: 0.21 } }, finish("t", "The invoice has the new logo.")],
      { base: branch },
    );
    await end(picture);
    const fails = await rig.submit("Move the queue to the new broker", [{ bash: "npm test" }, { exit: 7 }], {
      maxAttempts: 1,
    });
    await end(fails, "failed");
    refunds = await rig.submit("Refunds are idempotent", [
      { say: "I look for everything that writes refunds, then lock the order before it is read." },
      todo(1, true),
      { bash: "rg -n refund src | head" },
      write("src/refunds.ts", AFTER),
      write(
        "migrations/0007_refund_keys.sql",
        "ALTER TABLE refunds ADD COLUMN key TEXT;\nCREATE UNIQUE INDEX refunds_key ON refunds (key);\n",
      ),
      write("test/refunds.test.ts", TEST),
      todo(4, false),
      { usage: { usd: 0.74 } },
      finish(
        "t",
        "A refund has a key, which is unique. The order is **locked** before it is read, so two requests at once are one refund.",
      ),
    ]);
    await end(refunds);
    asks = await rig.submit("Remove the legacy export", [
      { say: "Two clients still call it." },
      {
        ask: {
          question: "Keep /export/v1 for one more version, or answer 410 at once?",
          options: ["Keep it", "410 at once"],
        },
      },
      rig.gate().step,
    ]);
    await rig.until(asks, (task) => task.question !== null, "the question");
    runs = await rig.submit("Trace slow queries", [
      { say: "I measure before I change anything." },
      todo(2, true),
      { usage: { usd: 0.32 } },
      { bash: "until psql -f slow.sql; do sleep 9; done", timeoutMs: 600_000 },
    ]);
    await rig.until(runs, (task) => task.usage.usd > 0, "its cost");
    stopped = await rig.submit("Rewrite the importer", [write("src/importer.ts", BEFORE), rig.gate().step]);
    await rig.until(stopped, ({ changes }) => (changes?.files ?? 0) > 0, "a change");
    await rig.call("POST", `/v1/tasks/${stopped}/cancel`);
    await end(stopped, "cancelled");
  });
  afterAll(() => rig.close());

  async function open(
    viewport: typeof NARROW | typeof WIDE,
    colorScheme: "light" | "dark",
    path: string,
  ): Promise<Page> {
    const isPhone = viewport === NARROW;
    const { page } = await rig.open({
      viewport,
      colorScheme,
      deviceScaleFactor: isPhone ? 2 : 1,
      hasTouch: isPhone,
      isMobile: isPhone,
    });
    await rig.logIn(page);
    await page.goto(rig.server().url + path);
    return page;
  }

  const keep = (page: Page, name: string): Promise<Buffer> => page.screenshot({ path: join(SCREENS, `${name}.png`) });

  it("the inbox at a desk", async () => {
    const page = await open(WIDE, "light", "/");
    await page
      .getByRole("complementary", { name: "Preview" })
      .getByRole("heading", { name: /export\/v1/ })
      .waitFor();
    await keep(page, "inbox-desk");
  });

  it("a task at a desk", async () => {
    const page = await open(WIDE, "light", `/tasks/${refunds}`);
    const changes = page.getByRole("complementary", { name: "Changes" });
    await changes.getByRole("region", { name: "Diff of refunds.ts" }).locator(".k").first().waitFor();
    await keep(page, "task-desk");
  });

  it("the inbox on a phone", async () => {
    const page = await open(NARROW, "light", "/");
    await page.getByRole("button", { name: "410 at once" }).waitFor();
    await keep(page, "inbox");
  });

  it("a task that runs, and its chart", async () => {
    const page = await open(NARROW, "light", `/tasks/${runs}`);
    await page.getByText("I measure before").waitFor();
    await keep(page, "task");
    await page.getByRole("button", { name: "Whole machine" }).click();
    await page.getByRole("dialog").getByRole("region", { name: "Chart of the lifecycle" }).waitFor();
    await keep(page, "chart");
  });

  it("a question, a result and a stop", async () => {
    for (const [name, id, words] of [
      ["question", asks, "410 at once"],
      ["result", refunds, "The order is"],
      ["stopped", stopped, "Container gone"],
    ] as const) {
      const page = await open(NARROW, "light", `/tasks/${id}`);
      await page.getByText(words).first().waitFor();
      await page.waitForLoadState("networkidle");
      if (name === "question") await page.getByRole("button", { name: "Answer" }).scrollIntoViewIfNeeded();
      await keep(page, name);
    }
  });

  it("the changes on a phone", async () => {
    const page = await open(NARROW, "light", `/tasks/${refunds}/changes`);
    await page.getByRole("region", { name: "Diff of refunds.ts" }).locator(".k").first().waitFor();
    await keep(page, "changes");
  });

  it("a new task", async () => {
    const page = await open(NARROW, "light", "/new");
    await page.getByLabel("Repository").fill(rig.repo);
    await page
      .getByLabel("Prompt")
      .fill("A refund is made twice when two requests come at once. Find out why and fix it.");
    await page.getByText(/^Can be read and pushed to/).waitFor();
    await keep(page, "pre-flight");
  });

  it("a changed picture", async () => {
    const page = await open(NARROW, "light", `/tasks/${picture}/changes`);
    await page.getByRole("radio", { name: "Difference" }).check({ force: true });
    await page.getByText(/of the pixels differ/).waitFor();
    await keep(page, "picture");
  });

  it("the console at a desk", async () => {
    const page = await open(WIDE, "dark", "/console");
    await page.getByText("attempts exhausted").waitFor();
    await page.waitForLoadState("networkidle");
    await keep(page, "console-desk-dark");
  });
});
