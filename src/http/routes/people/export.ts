/** The export of all that a person has. */
import { SlipwayError } from "../../../core/error.ts";
import { route, type ApiDeps, type RouteReply } from "../../route.ts";
import { archivePerson } from "./person-archive.ts";

const MEDIA = "application/gzip";

/** People whose export is under way. */
const running = new WeakMap<ApiDeps["accounts"], Set<string>>();

async function exportPerson(deps: ApiDeps, userId: string): Promise<RouteReply> {
  const user = await deps.accounts.user(userId);
  if (user === null) throw new SlipwayError("not_found", "There is no such person.");
  const own = running.get(deps.accounts) ?? new Set();
  running.set(deps.accounts, own);
  if (own.has(userId))
    throw new SlipwayError("rate_limited", "An export of this person is under way. Wait for its end.");
  own.add(userId);
  const headers = { "Content-Disposition": `attachment; filename="slipway-${userId}.tar.gz"` };
  const content = untilEnd(archivePerson(deps, user), () => void own.delete(userId));
  return { status: 200, media: MEDIA, headers, content };
}

/** @param onEnd called when the iteration ends, fails, or is left, also before its first item. */
function untilEnd(source: AsyncGenerator<Uint8Array, void>, onEnd: () => void): AsyncIterable<Uint8Array> {
  const watch = async <T extends { done?: boolean }>(step: Promise<T>): Promise<T> => {
    let isOver = true;
    try {
      const result = await step;
      isOver = result.done === true;
      return result;
    } finally {
      if (isOver) onEnd();
    }
  };
  return {
    [Symbol.asyncIterator]: () => ({ next: () => watch(source.next()), return: () => watch(source.return()) }),
  };
}

const WHAT = "one gzipped tar archive with profile, settings, tasks, files and audit rows; no secret";

export const exportRoutes = [
  route({
    method: "get",
    path: "/v1/me/export",
    access: "user",
    scope: null,
    operation: "exportMe",
    isLarge: true,
    summary: `All that I have: ${WHAT}`,
    answers: { 200: [{ binary: MEDIA }] },
    problems: ["not_found", "rate_limited"],
    handle: ({ deps, caller }) => exportPerson(deps, caller.userId),
  }),
  route({
    method: "get",
    path: "/v1/users/:id/export",
    access: "admin",
    scope: null,
    operation: "exportUser",
    isLarge: true,
    summary: `All that a person has: ${WHAT}`,
    answers: { 200: [{ binary: MEDIA }] },
    problems: ["not_found", "rate_limited"],
    handle: ({ deps, params }) => exportPerson(deps, params["id"] ?? ""),
  }),
];
