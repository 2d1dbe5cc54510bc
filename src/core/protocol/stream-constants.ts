/** Constants of the WebSocket protocol, apart from its schemas so that the SDK loads no zod. */
export const PROTOCOL = "slipway.v1";

export const CLOSE_CODES = {
  unauthenticated: 4401,
  forbidden: 4403,
  tooSlow: 4408,
  restarting: 1012,
  policy: 1008,
} as const;
