/** Recognises a full disk in the output of other programs: git, the Docker engine, its builder. */

/** True when the text contains the C library's message for ENOSPC or EDQUOT, in any case. */
export function isDiskFullMessage(text: string): boolean {
  return /no space left on device|disk quota exceeded/i.test(text);
}
