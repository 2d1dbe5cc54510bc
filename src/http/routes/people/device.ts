/** Log-in of a program by a code that a person approves (src/auth/device-logins.ts). */
import { toIsoTime } from "../../../core/protocol/mapping.ts";
import {
  deviceCodeSchema,
  deviceDecisionSchema,
  devicePollSchema,
  deviceStartSchema,
  pendingDeviceSchema,
  userCodeSchema,
} from "../../../core/protocol/people.ts";
import { readClientInfo } from "../../client-info.ts";
import { EMPTY, json, route, MEMORY_REPLAY } from "../../route.ts";
import { wireSession } from "./auth.ts";

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
        // An answer that nothing happened yet is no act.
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
      const found = await throttle.attempt("device", ip, caller.userId, async () => deps.devices.look(body.userCode));
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
];
