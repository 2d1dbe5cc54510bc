/**
 * The marks of Markdown at a heading, and around code and strong words, left out: for the line of a
 * list and for the lock screen, which show plain text. Reads no other Markdown.
 */
export const dropMarks = (text: string): string =>
  text.replace(/^#{1,6}\s+/, "").replaceAll(/(`+|\*\*)([^`*]+)\1/g, "$2");
