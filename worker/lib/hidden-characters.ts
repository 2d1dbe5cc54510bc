/**
 * Characters that a person does not see and a model reads: direction marks, zero-width characters,
 * tags, supplementary variation selectors. Text of third parties passes without them, and says how
 * many there were.
 */

/** Zero-width joiners are letters' business in some scripts and in emoji; those stay. */
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
  const kept = text.replace(HIDDEN, (character, at: number) => {
    if ((character === "\u200c" || character === "\u200d") && joins(text, at)) return character;
    count += 1;
    return "";
  });
  return { text: kept, count };
}

/** With a last line that says how many characters are missing. */
export function withoutHidden(text: string): string {
  const { text: kept, count } = stripHidden(text);
  return count === 0
    ? text
    : `${kept}\n[${count} hidden ${count === 1 ? "character was" : "characters were"} left out: zero-width, direction or tag]`;
}

function joins(text: string, at: number): boolean {
  const before = /(?:[\ud800-\udbff][\udc00-\udfff]|[^])$/.exec(text.slice(Math.max(0, at - 2), at))?.[0] ?? "";
  const after = String.fromCodePoint(text.codePointAt(at + 1) ?? 0);
  return JOINED.test(before) && JOINED.test(after);
}
