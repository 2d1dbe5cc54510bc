/** Keys that answer the question of the preview. None of them sends anything by itself. */
import { isTaken } from "../../lib/keys.ts";

/** A digit chooses an option; `a` goes to the button, or to the field when nothing is chosen. */
export function onAnswerKeys(): () => void {
  const listen = (event: KeyboardEvent): void => {
    const { key, ctrlKey, metaKey, altKey } = event;
    if (ctrlKey || metaKey || altKey || isTaken(event)) return;
    if (key === "a") {
      event.preventDefault();
      const button = document.querySelector<HTMLButtonElement>(".preview .ask [type=submit]");
      if (button?.disabled === false) button.focus();
      else document.querySelector<HTMLElement>(".preview .ask textarea")?.focus();
    } else if (/^[1-9]$/.test(key)) {
      document.querySelectorAll<HTMLElement>(".preview .ask [type=radio]")[Number(key) - 1]?.click();
    }
  };
  addEventListener("keydown", listen);
  return () => removeEventListener("keydown", listen);
}
