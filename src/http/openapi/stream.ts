/** The WebSocket in the document. OpenAPI has no words for it, so its frames are components. */
import { PROTOCOL } from "../../core/protocol/stream-constants.ts";
import { address, type Json } from "./schemas.ts";

const DESCRIPTION = `A WebSocket with the subprotocol \`${PROTOCOL}\`, for live updates.

Authentication, in one of three ways: the \`Authorization\` header; a ticket from \`POST /v1/tickets\` as a second subprotocol (\`${PROTOCOL}, ticket.<t>\`); a first frame \`{"type":"auth","token":"…"}\` within 5 s.

After \`{"type":"ready"}\` subscribe to topics: \`task:<id>\` is the log of a task, from any seq and without a gap; \`tasks\` are my tasks, each in its newest form whenever it changes; \`tasks:all\` are those of all people, for operators. Each \`events\` frame has a \`cursor\`: the \`after\` of the next subscription.

Close codes: 4401 get a new token; 4403 not allowed; 4408 read too slowly, reconnect with the last cursor; 1012 the server restarts, reconnect with the last cursor; 1008 a limit was broken, back off.`;

export function streamPath(): Json {
  const frame = (name: string): Json => ({ $ref: address(name) });
  return {
    get: {
      operationId: "openStream",
      summary: "Live updates over a WebSocket",
      description: DESCRIPTION,
      tags: ["Stream"],
      security: [{}, { bearer: [] }],
      parameters: [
        {
          name: "Sec-WebSocket-Protocol",
          in: "header",
          required: false,
          description: `\`${PROTOCOL}\`, and a ticket if there is one.`,
          schema: { type: "string" },
          example: PROTOCOL,
        },
      ],
      responses: {
        "101": {
          description: "The connection is a WebSocket now. Its frames are JSON texts.",
          content: {
            "application/json": { schema: { oneOf: [frame("StreamServerFrame"), frame("StreamClientFrame")] } },
          },
        },
        "400": { description: "The subprotocol is not offered." },
        "401": { description: "The token or ticket is not valid." },
        "403": { description: "The page's origin may not open the stream (SLIPWAY_ALLOWED_ORIGINS)." },
        "404": { description: "Not a WebSocket." },
        "429": { description: "Too many connections of this user." },
        "503": { description: "The server stops, or too many connections wait for their authentication." },
      },
    },
  };
}
