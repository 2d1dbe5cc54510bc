/** Recognises a full disk in errors of the file system and in the output of other programs. */

/** True when the text contains the C library's message for ENOSPC or EDQUOT, in any case. */
export function isDiskFullMessage(text: string): boolean {
  return /no space left on device|disk quota exceeded/i.test(text);
}

/** True for an error of the file system that has no room, or of a user whose quota is used up. */
export function isDiskFullError(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOSPC" || error.code === "EDQUOT");
}
