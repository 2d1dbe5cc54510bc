/** Pictures of a change, in a browser: before and after, one over the other, and what differs. */
import { crc32, deflateSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { describeWithBrowser, expectAccessible, NARROW, WIDE } from "../../support/browser/browser.ts";
import { openWebRig, type WebRig } from "../../support/browser/rig.ts";
import { sampled } from "../../support/random.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(2);

const SIDE = 32;
const DONE = { finish: { title: "t", summary: "They are drawn." } };

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}

/** A square, blue from the row `from` on and red above. */
function png(from: number): Buffer {
  const head = Buffer.alloc(13);
  head.writeUInt32BE(SIDE, 0);
  head.writeUInt32BE(SIDE, 4);
  // 8 bits for each of red, green and blue.
  head.set([8, 2], 8);
  const row = (y: number): Buffer =>
    Buffer.from([
      0,
      ...Array(SIDE)
        .fill(y < from ? [200, 0, 0] : [0, 0, 200])
        .flat(),
    ]);
  const rows = Buffer.concat(Array.from({ length: SIDE }, (_, y) => row(y)));
  const parts = [chunk("IHDR", head), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))];
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), ...parts]);
}

const save = (name: string, bytes: Buffer) => ({ bash: `echo ${bytes.toString("base64")} | base64 -d > ${name}` });
const HOSTILE = Buffer.from('\0<svg xmlns="http://www.w3.org/2000/svg" onload="document.title=1"/>');

describeWithBrowser("pictures of a change", () => {
  let rig: WebRig;
  let id: string;
  beforeAll(async () => {
    rig = await openWebRig();
    const end = async (task: string) => await rig.until(task, ({ state }) => state === "done", "the end");
    const first = await rig.submit("Draws", [save("logo.png", png(SIDE)), save("old.png", png(8)), DONE]);
    const { branch } = await end(first);
    const steps = [
      save("logo.png", png(24)),
      { bash: "rm old.png" },
      save("new.png", png(4)),
      save("hostile.png", HOSTILE),
      save("data.bin", Buffer.alloc(1_500)),
    ];
    id = await rig.submit("Draws again", [...steps, DONE], { base: branch });
    await end(id);
  });
  afterAll(() => rig.close());
  afterEach(() => rig.closeDevices());

  it.each(
    sampled(
      [
        ["a phone", NARROW],
        ["a desk", WIDE],
      ] as const,
      1,
    ),
  )(
    "[P19] on %s a picture is seen before and after, under an edge that moves, and as what differs",
    async (_, viewport) => {
      const { page, errors } = await rig.open({ viewport });
      await rig.logIn(page);
      await page.goto(`${rig.server().url}/tasks/${id}/changes`);
      const file = (name: string) => page.getByRole("region", { name, exact: true });
      const logo = file("logo.png");
      const choose = (mode: string): Promise<void> => logo.getByRole("radio", { name: mode }).check({ force: true });
      await logo.getByText(`before, ${png(SIDE).length} B, 32 × 32`).waitFor();
      await logo.getByText(`after, ${png(24).length} B, 32 × 32`).waitFor();
      await expectAccessible(page, "pictures beside each other");
      await logo.getByRole("button", { name: "Open after: logo.png" }).click();
      const opened = page.getByRole("dialog", { name: "logo.png, after" });
      await opened.getByRole("img", { name: "logo.png, after" }).waitFor();
      await opened.getByText("32 × 32").waitFor();
      await opened.getByRole("button", { name: "Actual size" }).click();
      const side = (): Promise<number> => opened.getByRole("img").evaluate((image) => image.clientWidth);
      await expect.poll(side).toBe(SIDE);
      await expectAccessible(page, "a picture alone");
      await page.keyboard.press("Escape");
      await opened.waitFor({ state: "detached" });
      await choose("Swipe");
      const edge = logo.getByRole("slider", { name: "Edge between before and after of logo.png" });
      const clip = (): Promise<string> =>
        logo.getByAltText("after: logo.png").evaluate((image) => getComputedStyle(image).clipPath);
      expect(await clip()).toBe("inset(0px 0px 0px 50%)");
      await edge.press("Home");
      await expect.poll(clip).toBe("inset(0px 0px 0px 0%)");
      await edge.press("End");
      await expect.poll(clip).toBe("inset(0px 0px 0px 100%)");
      await expectAccessible(page, "a picture under the other");
      await choose("Difference");
      await logo.getByText("25.0 % of the pixels differ. Equal ones are black.").waitFor();
      await expectAccessible(page, "what differs");
      await file("new.png")
        .getByText(`after, ${png(4).length} B, 32 × 32`)
        .waitFor();
      await file("old.png")
        .getByText(`before, ${png(8).length} B, 32 × 32`)
        .waitFor();
      await file("hostile.png").getByText("not a picture that this browser can show").waitFor();
      await file("data.bin").getByText("A binary file.").waitFor();
      await file("data.bin").getByText("1.5 kB").waitFor();
      expect(errors).toEqual([]);
    },
  );

  it("[P19] [V8] the bytes of a file are a picture by what they are, and nothing that a browser runs", async () => {
    const read = (path: string, side: string) =>
      fetch(`${rig.server().url}/v1/tasks/${id}/diff/content?path=${path}&side=${side}`, {
        headers: { authorization: `Bearer ${rig.server().token}` },
      });
    const picture = await read("logo.png", "before");
    expect([picture.status, picture.headers.get("content-type")]).toEqual([200, "image/png"]);
    expect(Buffer.from(await picture.arrayBuffer())).toEqual(png(SIDE));
    const hostile = await read("hostile.png", "after");
    expect(hostile.headers.get("content-type")).toBe("application/octet-stream");
    expect(hostile.headers.get("content-disposition")).toMatch(/^attachment; filename="hostile.png"/);
    expect(hostile.headers.get("content-security-policy")).toContain("sandbox");
    expect((await read("new.png", "before")).status).toBe(404);
    expect((await read("voucher.ts", "after")).status).toBe(404);
  });
});
