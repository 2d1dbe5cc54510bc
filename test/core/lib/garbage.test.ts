import { describe, expect, it } from "vitest";
import { removeGarbage, totalBytes } from "../../../src/core/lib/garbage.ts";

const item = { kind: "volume", name: "v1", bytes: 10 } as const;

describe("garbage", () => {
  it("is removed, and only listed in a dry run", async () => {
    let removals = 0;
    const remove = async (): Promise<void> => void removals++;
    expect(await removeGarbage("dry-run", item, remove)).toEqual({ ...item, error: null });
    expect(removals).toBe(0);
    expect(await removeGarbage("remove", item, remove)).toEqual({ ...item, error: null });
    expect(removals).toBe(1);
  });

  it("is reported with the error when its removal fails", async () => {
    const fail = (): Promise<never> => Promise.reject(new Error("x".repeat(1_000)));
    expect(await removeGarbage("remove", item, fail)).toEqual({ ...item, error: "x".repeat(300) });
  });

  it("has the sum of its known sizes", () => {
    const unknown = { ...item, bytes: null, error: null };
    expect(totalBytes([{ ...item, error: null }, unknown, { ...item, error: null }])).toBe(20);
  });
});
