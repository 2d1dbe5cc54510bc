/** Routes of attachments: files that people give with a prompt or a message. */
import { z } from "zod";
import type { Received } from "../../core/ports/files/attachments.ts";
import { attachmentSchema, isPicture, PICTURE_TYPES } from "../../core/values/attachment.ts";
import { json, route } from "../route.ts";

const DOWNLOAD = "application/octet-stream";
/** Whatever the bytes are: a browser that opens them runs nothing and loads nothing. */
const INERT = "default-src 'none'; sandbox; base-uri 'none'; frame-ancestors 'none'";

const uploadQuerySchema = z.strictObject({
  name: z.string().min(1).max(1_000).describe("The name of the file."),
});

/** What `receiveUpload` made of the body. */
const uploadSchema = z.custom<Received>();

/** The name for people, and a plain one for programs that know no other. */
function toDisposition(kind: "inline" | "attachment", name: string): string {
  const plain = name.replaceAll(/[^\w. -]/g, "_");
  const encoded = encodeURIComponent(name).replaceAll(
    /['()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `${kind}; filename="${plain}"; filename*=UTF-8''${encoded}`;
}

export const attachmentRoutes = [
  route({
    method: "post",
    path: "/v1/attachments",
    access: "user",
    operation: "uploadAttachment",
    summary: "Upload a file for a prompt or a message; one that no task names within a week is removed",
    query: uploadQuerySchema,
    body: uploadSchema,
    isUpload: true,
    answers: { 201: json(attachmentSchema) },
    problems: ["attachments_full", "rate_limited"],
    async handle({ body }) {
      return { status: 201, body: await body.keep() };
    },
  }),
  route({
    method: "get",
    path: "/v1/attachments/:id",
    access: "user",
    operation: "getAttachment",
    isLarge: true,
    summary: "The bytes of an attachment: a picture, or a download",
    answers: { 200: [...PICTURE_TYPES, DOWNLOAD].map((binary) => ({ binary })) },
    problems: ["not_found"],
    async handle({ deps, identity, params }) {
      const { attachment, content } = await deps.tasks.attachments.open(identity, params["id"] ?? "");
      const isShown = isPicture(attachment);
      const headers = {
        "Content-Length": String(attachment.bytes),
        "Content-Disposition": toDisposition(isShown ? "inline" : "attachment", attachment.name),
        "Content-Security-Policy": INERT,
      };
      return { status: 200, media: isShown ? attachment.mediaType : DOWNLOAD, content, headers };
    },
  }),
];
