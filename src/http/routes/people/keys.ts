/** The data keys of the installation, for admins. No answer contains a key. */
import type { z } from "zod";
import type { KeyRing } from "../../../auth/keys/key-ring.ts";
import { toIsoTime } from "../../../core/protocol/mapping.ts";
import { keyRotationSchema, keySchema } from "../../../core/protocol/people.ts";
import { pageSchema } from "../../../core/protocol/rest.ts";
import { json, listQuerySchema, pageOfList, route } from "../../route.ts";

async function wireKeys(keys: KeyRing): Promise<z.infer<typeof keySchema>[]> {
  const counts = await keys.sealedCounts();
  return keys.list().map(({ id, use, createdAt, retiredAt }) => ({
    id,
    use,
    state: retiredAt === null ? "active" : "retired",
    createdAt: toIsoTime(createdAt),
    retiredAt: retiredAt === null ? null : toIsoTime(retiredAt),
    sealed: use === "sealing" ? (counts[id] ?? 0) : null,
  }));
}

export const keyRoutes = [
  route({
    method: "get",
    path: "/v1/keys",
    access: "admin",
    operation: "listKeys",
    summary: "The ids and states of the keys that seal values and sign tokens, the newest first",
    query: listQuerySchema,
    answers: { 200: json(pageSchema(keySchema)) },
    async handle({ deps, query }) {
      return { status: 200, body: pageOfList(await wireKeys(deps.keys), ({ id }) => id, query) };
    },
  }),
  route({
    method: "post",
    path: "/v1/keys/rotate",
    access: "admin",
    operation: "rotateKeys",
    summary: "Make new keys of all uses, and seal stored values again; sessions and workers go on",
    answers: { 200: json(keyRotationSchema) },
    async handle({ deps, caller, idempotencyKey, act }) {
      const request = idempotencyKey === null ? deps.ids.next("rot") : `${caller.userId} ${idempotencyKey}`;
      const report = await deps.keys.rotate(request, act);
      const active = (await wireKeys(deps.keys)).filter(({ state }) => state === "active");
      return { status: 200, body: { ...report, active } };
    },
  }),
];
