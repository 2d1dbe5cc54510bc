/** Trigrams of searchable text, as the tokenizer of the search index makes them. */

/** Trigrams of one search: more would leave out few tasks, and each costs. */
export const MAX_TRIGRAMS = 8;

/**
 * Up to `most` different trigrams, spread evenly over the text; none for a text that is shorter
 * than three characters.
 */
export function toTrigrams(text: string, most: number): string[] {
  const points = [...text];
  const places = points.length - 2;
  if (places <= 0) return [];
  const count = Math.min(places, most);
  const step = count === 1 ? 0 : (places - 1) / (count - 1);
  const found = Array.from({ length: count }, (_, i) => {
    const place = Math.round(i * step);
    return points.slice(place, place + 3).join("");
  });
  return [...new Set(found)];
}
