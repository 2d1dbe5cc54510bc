/** The contract suite of the fair queue and of slots, which the scheduler relies on. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Store } from "../../src/core/ports/store.ts";
import type { Task } from "../../src/core/task.ts";
import { T0, cancel, claim, create, move, ready, retried, type TaskOptions } from "./tasks.ts";

const load = async (store: Store, id: string): Promise<Task> => (await store.task(id)) as Task;

/** Claims the next task and releases its slot at once. @returns its owner. */
async function serve(store: Store, userLimit: number | null = null): Promise<string | null> {
  const [id] = await store.claimable(1, userLimit);
  if (id === undefined) return null;
  const task = await move(store, await load(store, id), claim);
  await move(store, await move(store, task, cancel), { type: "task.state", data: { reason: "stopped" } });
  return task.userId;
}

async function serveAll(store: Store): Promise<string[]> {
  const order: string[] = [];
  for (let user = await serve(store); user !== null; user = await serve(store)) order.push(user);
  return order;
}

export function queueContract(get: () => Store): void {
  describe("fair order", () => fairSuite(get));
  describe("fair shares", () => holdingSuite(get));
  describe("slots and limits", () => slotSuite(get));
}

function fairSuite(get: () => Store): void {
  const submit = (userId: string, n = 1, more: TaskOptions = {}): Promise<Task[]> =>
    Promise.all(Array.from({ length: n }, () => create(get(), { userId, ...more })));

  it("[D8] owners alternate, regardless of how many tasks each has", async () => {
    await submit("a", 4);
    await submit("b", 2);
    await submit("c", 1);
    expect(await serveAll(get())).toEqual(["a", "b", "c", "a", "b", "a", "a"]);
  });

  it("[D8] a late owner starts level with the others, not after them", async () => {
    await submit("a", 6);
    await submit("b", 6);
    for (let i = 0; i < 6; i++) await serve(get());
    await submit("c", 2);
    const rest = await serveAll(get());
    expect(rest.indexOf("c")).toBeLessThan(3);
    expect(rest.lastIndexOf("c")).toBeLessThan(6);
    expect(rest).toHaveLength(8);
  });

  it("[D8] a late owner does not overtake all waiting tasks of the others", async () => {
    await submit("a", 3);
    for (let i = 0; i < 3; i++) await serve(get());
    await submit("a", 2);
    await submit("b", 4);
    expect(await serveAll(get())).toEqual(["b", "a", "b", "a", "b", "b"]);
  });

  it("[D8] a higher priority is served first", async () => {
    await submit("a", 2);
    await submit("b", 2, { spec: { priority: 5 } });
    await submit("c", 1, { spec: { priority: -5 } });
    expect(await serveAll(get())).toEqual(["b", "b", "a", "a", "c"]);
  });

  it("[D8] a stream of higher priority does not starve an old task", async () => {
    await submit("old", 1);
    let served = 0;
    for (let user: string | null = ""; user !== "old"; served++) {
      await submit("eager", 1, { spec: { priority: 1 } });
      user = await serve(get());
      expect(served).toBeLessThan(250);
    }
    expect(served).toBeGreaterThan(50);
  });

  it("[D8] traffic of other priorities does not put a new owner behind the long queue of another", async () => {
    await submit("a", 30);
    await serve(get());
    for (let i = 0; i < 20; i++) {
      await submit("vip", 1, { spec: { priority: 3 } });
      expect(await serve(get())).toBe("vip");
    }
    await submit("b", 1);
    expect((await serveAll(get())).indexOf("b")).toBeLessThan(3);
  });

  it("[D8] a task that is queued again keeps its position", async () => {
    const [first] = await submit("a", 1);
    await submit("b", 3);
    const again = await move(get(), await move(get(), first!, claim), ...retried.slice(0, 1));
    expect(await get().positions([first!.id])).toEqual(new Map());
    expect(await get().claimable(1, null)).not.toContain(first!.id);
    await move(get(), again, ...retried.slice(1));
    expect(await get().claimable(10, null)).toHaveLength(4);
    expect((await get().claimable(1, null))[0]).toBe(first!.id);
    expect(await get().positions([first!.id])).toEqual(new Map([[first!.id, 0]]));
  });

  it("[W8] of one thread only the oldest open task can be claimed, whatever its state", async () => {
    const store = get();
    const first = await create(store, { userId: "a" });
    const second = await create(store, { userId: "a", threadId: first.threadId, parentId: first.id });
    const other = await create(store, { userId: "b" });
    const ids = async (): Promise<string[]> => (await store.claimable(10, null)).toSorted();
    expect(await ids()).toEqual([first.id, other.id].toSorted());
    expect(await store.threadAhead(second.id)).toBe(first.id);
    expect(await store.threadAhead(first.id)).toBeNull();
    const claimed = await move(store, first, claim);
    expect(await ids()).toEqual([other.id]);
    expect(await store.claimable(10, 5)).toEqual([other.id]);
    await move(store, await move(store, claimed, cancel), { type: "task.state", data: { reason: "stopped" } });
    expect(await ids()).toEqual([second.id, other.id].toSorted());
    expect(await store.threadAhead(second.id)).toBeNull();
  });

  it("[D8] positions count the queued tasks before each of some, in any order; others have none", async () => {
    const a = await submit("a", 3);
    const [b] = await submit("b", 1);
    const order = await get().claimable(10, null);
    expect(order).toEqual([a[0]!.id, b!.id, a[1]!.id, a[2]!.id]);
    const positions = (...ids: string[]) => get().positions(ids);
    const placed = (...ids: (readonly [string, number])[]) => new Map(ids);
    for (const [i, id] of order.entries()) expect(await positions(id)).toEqual(placed([id, i]));
    const [first, , third, last] = order as [string, string, string, string];
    expect(await positions(...order.toReversed())).toEqual(placed(...order.map((id, i) => [id, i] as const)));
    expect(await positions(last, "task_none", first, last)).toEqual(placed([first, 0], [last, 3]));
    await move(get(), a[0]!, claim);
    expect(await positions(first, third, last)).toEqual(placed([third, 1], [last, 2]));
    expect(await positions()).toEqual(placed());
  });

  it("[D8] while two owners wait, their numbers of served tasks differ by at most one", async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom("a", "b", "c", "d"), { minLength: 2, maxLength: 14 }),
        async (letters) => {
          // New owners in each run, and an empty queue even after a run that failed.
          while ((await serve(get())) !== null);
          const owners = letters.map((letter) => `${letter}${run}`);
          run++;
          const left = new Map<string, number>();
          for (const owner of owners) {
            left.set(owner, (left.get(owner) ?? 0) + 1);
            await submit(owner);
          }
          const served = new Map<string, number>([...left.keys()].map((owner) => [owner, 0]));
          for (let owner = await serve(get()); owner !== null; owner = await serve(get())) {
            served.set(owner, served.get(owner)! + 1);
            left.set(owner, left.get(owner)! - 1);
            const waiting = [...left].filter(([, n]) => n > 0).map(([name]) => served.get(name)!);
            if (waiting.length > 1) expect(Math.max(...waiting) - Math.min(...waiting)).toBeLessThanOrEqual(1);
          }
          expect([...left.values()].every((n) => n === 0)).toBe(true);
        },
      ),
      { numRuns: 15 },
    );
  });
}

function holdingSuite(get: () => Store): void {
  it("[D8] a slot goes to the waiting owner who holds the fewest, however long tasks take", async () => {
    let run = 0;
    const owner = fc.constantFrom("a", "b", "c");
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ do: fc.constant("submit" as const), owner, priority: fc.nat(2) }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constant("claim" as const) }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constant("end" as const), n: fc.nat() }) },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 40 }), async (steps) => {
        run++;
        const waiting: Task[] = [];
        const held: Task[] = [];
        const countOf = (tasks: readonly Task[], userId: string): number =>
          tasks.filter((task) => task.userId === userId).length;
        for (const next of steps) {
          if (next.do === "submit") {
            const spec = { priority: next.priority };
            waiting.push(await create(get(), { userId: `${next.owner}${run}`, spec }));
          } else if (next.do === "claim") {
            const [id] = await get().claimable(1, null);
            const index = waiting.findIndex((task) => task.id === id);
            expect(index === -1).toBe(waiting.length === 0);
            if (index === -1) continue;
            const owners = new Set(waiting.map(({ userId }) => userId));
            const [task] = waiting.splice(index, 1) as [Task];
            expect(countOf(held, task.userId)).toBe(Math.min(...[...owners].map((each) => countOf(held, each))));
            held.push(await move(get(), task, claim));
          } else if (held.length > 0) {
            const [task] = held.splice(next.n % held.length, 1) as [Task];
            await move(get(), await move(get(), task, cancel), { type: "task.state", data: { reason: "stopped" } });
          }
        }
        for (const task of waiting) await move(get(), task, cancel);
        for (const task of held)
          await move(get(), await move(get(), task, cancel), { type: "task.state", data: { reason: "stopped" } });
      }),
      { numRuns: 30 },
    );
  });
}

function slotSuite(get: () => Store): void {
  it("[S14] a person's tasks are counted: open ones, new ones, and since when there are so many", async () => {
    const tasks: Task[] = [];
    for (const at of [T0, T0 + 10, T0 + 20]) tasks.push(await create(get(), { userId: "a", at }));
    await create(get(), { userId: "b", at: T0 + 30 });
    await move(get(), tasks[0] as Task, cancel);
    expect(await Promise.all([1, 3, 4].map((n) => get().newestTaskAt("a", n)))).toEqual([T0 + 20, T0, null]);
    expect(await get().taskLoad("a", T0)).toEqual({ open: 2, since: 2 });
    expect(await get().taskLoad("c", 0)).toEqual({ open: 0, since: 0 });
    expect(await get().hasIdempotencyKey("a", "x")).toBe(false);
  });

  it("[D5] a slot is held from the claim to the end of the attempt", async () => {
    const task = await create(get(), { userId: "a" });
    await create(get(), { userId: "b" });
    expect(await get().slotsHeld()).toBe(0);
    const claimed = await move(get(), task, claim);
    expect([await get().slotsHeld(), await get().slotsHeld("a"), await get().slotsHeld("b")]).toEqual([1, 1, 0]);
    const stopping = await move(get(), claimed, ready, cancel);
    expect(await get().slotsHeld()).toBe(1);
    await move(get(), stopping, { type: "task.state", data: { reason: "stopped" } });
    expect(await get().slotsHeld()).toBe(0);
  });

  it("[D4] the user limit counts held slots and tasks chosen in the same call", async () => {
    const a = [
      await create(get(), { userId: "a" }),
      await create(get(), { userId: "a" }),
      await create(get(), { userId: "a" }),
    ];
    const b = await create(get(), { userId: "b" });
    expect(await get().claimable(10, 2)).toEqual([a[0]!.id, b.id, a[1]!.id]);
    const held = await move(get(), a[0]!, claim);
    expect(await get().claimable(10, 2)).toEqual([b.id, a[1]!.id]);
    await move(get(), a[1]!, claim);
    expect(await get().claimable(10, 2)).toEqual([b.id]);
    expect(await get().claimable(10, 3)).toEqual([b.id, a[2]!.id]);
    await move(get(), held, ...retried.slice(0, 1));
    expect(await get().claimable(10, 2)).toEqual([b.id, a[2]!.id]);
  });

  it("[D4] a long queue of one owner does not hide the others, and a limit of 0 returns nothing", async () => {
    await Promise.all(Array.from({ length: 600 }, () => create(get(), { userId: "a" })));
    const b = await create(get(), { userId: "b", spec: { priority: -1 } });
    const c = await create(get(), { userId: "c", spec: { priority: -2 } });
    expect(await get().claimable(3, 1)).toEqual([expect.any(String), b.id, c.id]);
    expect(await get().claimable(2, 1)).toEqual([expect.any(String), b.id]);
    expect(await get().claimable(10, 0)).toEqual([]);
    expect(await get().claimable(0, null)).toEqual([]);
    expect(await get().claimable(200, null)).toHaveLength(200);
    expect(await get().claimable(1_000, null)).toHaveLength(602);
  });
}
