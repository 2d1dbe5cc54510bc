/** All keys of a desk, by where they work. */
import { PALETTE_KEYS } from "../lib/keys.ts";
import { Sheet } from "./sheet.tsx";

const KEYS: readonly (readonly [where: string, rows: readonly (readonly [keys: string, what: string])[]])[] = [
  [
    "Everywhere",
    [
      [PALETTE_KEYS, "search tasks, repositories and actions"],
      ["c", "new task"],
      ["?", "this list"],
      ["Esc", "close what is open"],
    ],
  ],
  [
    "Tasks",
    [
      ["j", "next task"],
      ["k", "previous task"],
      ["Enter", "open it"],
      ["1 – 9", "choose an option of the question in the preview"],
      ["a", "go to its answer"],
    ],
  ],
  [
    "Message",
    [
      ["Enter", "send"],
      ["Shift Enter", "new line"],
    ],
  ],
  [
    "Files of a large change",
    [
      ["n", "next file that is not seen"],
      ["s", "mark it as seen, and go to the next"],
    ],
  ],
  [
    "Lines of a change",
    [
      ["↓", "next line"],
      ["↑", "previous line"],
      ["Enter", "comment on it"],
    ],
  ],
];

export function KeysSheet({ onClose }: { onClose: () => void }) {
  return (
    <Sheet title="Keys" isOpen onClose={onClose}>
      {KEYS.map(([where, rows]) => (
        <section key={where} aria-label={where}>
          <h3 className="over apart">{where}</h3>
          <dl className="facts">
            {rows.map(([keys, what]) => [
              <dt key={keys}>
                <kbd className="kbd">{keys}</kbd>
              </dt>,
              <dd key={what}>{what}</dd>,
            ])}
          </dl>
        </section>
      ))}
    </Sheet>
  );
}
