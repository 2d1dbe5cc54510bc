/** A short text of an agent, in which backticks mark code. Other Markdown stays as it is. */
export function CodedText({ text }: { text: string }) {
  return text.split(/`([^`\n]+)`/).map((part, i) => (i % 2 === 1 ? <code key={i}>{part}</code> : part));
}
