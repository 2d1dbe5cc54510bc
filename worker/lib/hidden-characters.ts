/**
 * Removes characters that a person does not see but a model reads: direction marks, zero-width
 * characters, tags, supplementary variation selectors. Text of third parties is passed on without
 * them, with the number of removed characters.
 */

/** Zero-width joiners are part of the spelling in these scripts and in emoji; there they stay. */
const JOINED =
  /[\p{Script=Arabic}\p{Script=Devanagari}\p{Script=Bengali}\p{Script=Gujarati}\p{Script=Gurmukhi}\p{Script=Kannada}\p{Script=Malayalam}\p{Script=Oriya}\p{Script=Sinhala}\p{Script=Tamil}\p{Script=Telugu}\p{Script=Khmer}\p{Script=Myanmar}\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f]/u;
const HIDDEN =
  /[\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/gu;

export interface Stripped {
  readonly text: string;
  readonly count: number;
}

export function stripHidden(text: string): Stripped {
  let count = 0;
  const stripped = text.replace(HIDDEN, (character, offset: number) => {
    if ((character === "\u200c" || character === "\u200d") && isJoiner(text, offset)) return character;
    count += 1;
    return "";
  });
  return { text: stripped, count };
}

/** Strips the text and, when characters were removed, appends a line with their number. */
export function withoutHidden(text: string): string {
  const { text: stripped, count } = stripHidden(text);
  return count === 0
    ? text
    : `${stripped}\n[${count} hidden ${count === 1 ? "character was" : "characters were"} left out: zero-width, direction or tag]`;
}

/** True when the characters before and after the offset are ones that joiners connect. */
function isJoiner(text: string, offset: number): boolean {
  const before = /(?:[\ud800-\udbff][\udc00-\udfff]|[^])$/.exec(text.slice(Math.max(0, offset - 2), offset))?.[0] ?? "";
  const after = String.fromCodePoint(text.codePointAt(offset + 1) ?? 0);
  return JOINED.test(before) && JOINED.test(after);
}
