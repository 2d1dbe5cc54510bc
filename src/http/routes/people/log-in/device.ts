/** Log-in of a program by a code that a person approves (src/auth/device-logins.ts). */
import { toIsoTime } from "../../../../core/protocol/mapping.ts";
import {
  claimOfferSchema,
  claimedOfferSchema,
  deviceCodeSchema,
  deviceDecisionSchema,
  deviceOfferSchema,
  deviceOfferStateSchema,
  devicePollSchema,
  deviceStartSchema,
  pendingDeviceSchema,
  userCodeSchema,
} from "../../../../core/protocol/people.ts";
import { z } from "zod";
import { readClientInfo } from "../../../client-info.ts";
import { rejectOtherSites } from "../../../cookies.ts";
import { EMPTY, json, route, MEMORY_REPLAY } from "../../../route.ts";
import { wireSession } from "./auth.ts";
import { browserReply, browserSessionSchema } from "./browser-session.ts";

const browserPollSchema = z.discriminatedUnion("state", [
  z.strictObject({ state: z.literal("pending"), interval: z.int() }),
  z.strictObject({ state: z.literal("done"), session: browserSessionSchema }),
]);

export const deviceRoutes = [
  route({
    method: "post",
    path: "/v1/device/start",
    access: "none",
    operation: "startDeviceLogin",
    summary: "Begin the log-in of a program: show userCode and verificationUrl to the person",
    replay: MEMORY_REPLAY,
    answers: { 200: json(deviceStartSchema) },
    problems: ["rate_limited"],
    async handle(call) {
      const { deps } = call;
      const started = deps.devices.start(readClientInfo(call));
      const verificationUrl = `${deps.logins.baseUrl}/device`;
      // In the fragment, which browsers do not send.
      const verificationUrlComplete = `${verificationUrl}#${started.userCode}`;
      return { status: 200, body: { ...started, verificationUrl, verificationUrlComplete } };
    },
  }),
  route({
    method: "post",
    path: "/v1/device/poll",
    access: "none",
    operation: "pollDeviceLogin",
    summary: "Whether the person has approved the log-in; the session is given once",
    body: deviceCodeSchema,
    replay: MEMORY_REPLAY,
    answers: { 200: json(devicePollSchema) },
    problems: ["expired", "forbidden", "unauthenticated"],
    async handle(call) {
      const polled = await call.deps.devices.poll(call.body.deviceCode, readClientInfo(call));
      if (polled.state === "pending") {
        // A poll without a result leaves no row in the audit log.
        if (call.act !== undefined) call.act.isWritten = true;
        return { status: 200, body: { state: polled.state, interval: polled.interval } };
      }
      return { status: 200, body: { state: "done", session: wireSession(polled.grant) } };
    },
  }),
  route({
    method: "post",
    path: "/v1/device/look",
    access: "user",
    scope: null,
    operation: "lookAtDeviceLogin",
    summary: "Which program asks to be logged in, from where and since when",
    body: userCodeSchema,
    answers: { 200: json(pendingDeviceSchema) },
    problems: ["expired", "rate_limited"],
    async handle({ deps, throttle, ip, caller, body }) {
      const found = await throttle.attempt("device", ip, caller.userId, async () =>
        deps.devices.look(caller, body.userCode),
      );
      return { status: 200, body: { ...found, startedAt: toIsoTime(found.startedAt) } };
    },
  }),
  route({
    method: "post",
    path: "/v1/device/decide",
    access: "user",
    scope: null,
    operation: "decideDeviceLogin",
    summary: "Approve or refuse the log-in of a program, as the person of this session",
    body: deviceDecisionSchema,
    answers: { 204: EMPTY },
    problems: ["expired", "forbidden", "rate_limited"],
    async handle({ deps, throttle, ip, caller, body }) {
      await throttle.attempt("device", ip, caller.userId, async () =>
        deps.devices.decide(caller, body.userCode, body.allow),
      );
      return { status: 204 };
    },
  }),
  route({
    method: "post",
    path: "/v1/device/offer",
    access: "user",
    scope: null,
    operation: "offerDeviceLogin",
    summary: "A one-time link that logs a phone in, which this session then approves; it ends the one before",
    replay: MEMORY_REPLAY,
    answers: { 201: json(deviceOfferSchema) },
    problems: ["forbidden"],
    async handle({ deps, caller }) {
      const { token, expiresIn } = deps.devices.offer(caller);
      // In the fragment, which browsers do not send.
      return { status: 201, body: { token, url: `${deps.logins.baseUrl}/pair#${token}`, expiresIn } };
    },
  }),
  route({
    method: "get",
    path: "/v1/device/offer",
    access: "user",
    scope: null,
    operation: "getDeviceOffer",
    summary: "Which device opened this session's link. Decide with POST /v1/device/decide",
    answers: { 200: json(deviceOfferStateSchema) },
    problems: ["forbidden", "expired"],
    async handle({ deps, caller }) {
      const found = deps.devices.offered(caller);
      return {
        status: 200,
        body: found.state === "waiting" ? found : { ...found, startedAt: toIsoTime(found.startedAt) },
      };
    },
  }),
  route({
    method: "delete",
    path: "/v1/device/offer",
    access: "user",
    scope: null,
    operation: "withdrawDeviceOffer",
    summary: "End this session's link, and the log-in that it began",
    answers: { 204: EMPTY },
    problems: ["forbidden"],
    async handle({ deps, caller }) {
      deps.devices.withdraw(caller);
      return { status: 204 };
    },
  }),
  route({
    method: "post",
    path: "/v1/device/claim",
    access: "none",
    operation: "claimDeviceOffer",
    summary: "Ask to be logged in by a one-time link: show userCode, then poll with deviceCode",
    body: claimOfferSchema,
    replay: MEMORY_REPLAY,
    answers: { 200: json(claimedOfferSchema) },
    problems: ["expired", "forbidden", "rate_limited"],
    async handle(call) {
      rejectOtherSites(call);
      const { deps, throttle, ip, body } = call;
      const client = readClientInfo(call);
      return {
        status: 200,
        body: await throttle.attempt("device", ip, null, async () => deps.devices.claim(body.token, client)),
      };
    },
  }),
  route({
    method: "post",
    path: "/v1/session/device",
    access: "none",
    operation: "pollDeviceLoginInBrowser",
    summary: "As POST /v1/device/poll; the refresh token is set as a cookie",
    body: deviceCodeSchema,
    replay: MEMORY_REPLAY,
    answers: { 200: json(browserPollSchema) },
    problems: ["expired", "forbidden", "unauthenticated"],
    async handle(call) {
      rejectOtherSites(call);
      const polled = await call.deps.devices.poll(call.body.deviceCode, readClientInfo(call));
      if (polled.state === "pending") {
        if (call.act !== undefined) call.act.isWritten = true;
        return { status: 200, body: { state: "pending", interval: polled.interval } };
      }
      const { body: session, ...reply } = browserReply(call, 200, polled.grant);
      return { ...reply, body: { state: "done", session } };
    },
  }),
];
