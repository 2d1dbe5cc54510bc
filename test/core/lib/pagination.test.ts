import { describe, expect, it } from "vitest";
import { every, PAGE_BYTES, pageOf } from "../../../src/core/lib/pagination.ts";

/** A lazy source that counts the rows that are read from it. */
function createSource(length: number): { rows: Iterable<number>; read: () => number } {
  let read = 0;
  function* generate(): Generator<number> {
    for (let i = 1; i <= length; i++) {
      read = i;
      yield i;
    }
  }
  return { rows: generate(), read: () => read };
}

describe("a page", () => {
  it("ends at the limit and reads one row more to know whether others follow", () => {
    const source = createSource(10);
    expect(pageOf(source.rows, 3, () => 1, String)).toEqual({ items: ["1", "2", "3"], more: true });
    expect(source.read()).toBe(4);
    expect(pageOf(createSource(3).rows, 3, () => 1, String)).toEqual({ items: ["1", "2", "3"], more: false });
    expect(pageOf([], 3, () => 1, String)).toEqual({ items: [], more: false });
  });

  it("ends after the item with which it is full", () => {
    expect(pageOf([1, 2, 3], 10, () => PAGE_BYTES / 2, Number)).toEqual({ items: [1, 2], more: true });
    expect(pageOf([1, 2], 10, () => PAGE_BYTES * 5, Number)).toEqual({ items: [1], more: true });
  });
});

describe("iterating over pages", () => {
  it("yields every item once and reads no page that is not needed", async () => {
    const calls: (number | null)[] = [];
    const read = async (last: number | null) => {
      calls.push(last);
      return pageOf(
        [1, 2, 3, 4, 5].filter((n) => n > (last ?? 0)),
        2,
        () => 1,
        Number,
      );
    };
    const found: number[] = [];
    for await (const n of every(read)) found.push(n);
    expect([found, calls]).toEqual([
      [1, 2, 3, 4, 5],
      [null, 2, 4],
    ]);
    calls.length = 0;
    for await (const n of every(read)) if (n === 2) break;
    expect(calls).toEqual([null]);
  });
});
