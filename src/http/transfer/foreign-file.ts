/**
 * Files of people and of repositories: a browser that opens one runs nothing and loads nothing,
 * whatever its bytes are.
 */

/** The media type of what is no picture. */
export const DOWNLOAD = "application/octet-stream";

const INERT = "default-src 'none'; sandbox; base-uri 'none'; frame-ancestors 'none'";

/** @param isShown a picture, which a browser may show; anything else is saved. */
export function foreignHeaders(name: string, bytes: number, isShown: boolean): Readonly<Record<string, string>> {
  return {
    "Content-Length": String(bytes),
    "Content-Disposition": toDisposition(isShown ? "inline" : "attachment", name),
    "Content-Security-Policy": INERT,
  };
}

/** The name for people, and a plain one for programs that know no other. */
function toDisposition(kind: "inline" | "attachment", name: string): string {
  const plain = name.replaceAll(/[^\w. -]/g, "_");
  const encoded = encodeURIComponent(name).replaceAll(
    /['()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `${kind}; filename="${plain}"; filename*=UTF-8''${encoded}`;
}
