/** Routes of attachments: files that people give with a prompt or a message. */
import { z } from "zod";
import type { Received } from "../../core/ports/files/attachments.ts";
import { attachmentSchema, isPicture, PICTURE_TYPES } from "../../core/values/attachment.ts";
import { DOWNLOAD, foreignHeaders } from "../transfer/foreign-file.ts";
import { json, route } from "../route.ts";

const uploadQuerySchema = z.strictObject({
  name: z.string().min(1).max(1_000).describe("The name of the file."),
});

/** What `receiveUpload` made of the body. */
const uploadSchema = z.custom<Received>();

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
      const headers = foreignHeaders(attachment.name, attachment.bytes, isShown);
      return { status: 200, media: isShown ? attachment.mediaType : DOWNLOAD, content, headers };
    },
  }),
];
