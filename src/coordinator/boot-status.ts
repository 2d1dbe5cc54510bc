/**
 * Which parts of the boot are not complete yet, and why. The server listens meanwhile, so people
 * and load balancers can see it (rule D13).
 */

/**
 * `tasks`: open tasks that are not adopted; each keeps its own slot. `engine`: no list of the
 * running sandboxes. `orphans`: sandboxes that no task needs.
 */
export type BootPart = "tasks" | "engine" | "orphans";

export interface IncompletePart {
  readonly part: BootPart;
  /** For operators. */
  readonly reason: string;
}

export class BootStatus {
  readonly #reasons = new Map<BootPart, string>([
    ["tasks", "The open tasks are not adopted yet."],
    ["engine", "The sandbox engine was not asked yet."],
    ["orphans", "Sandboxes that no task needs are not removed yet."],
  ]);

  /** @param reason null = the part is complete. */
  set(part: BootPart, reason: string | null): void {
    if (reason === null) this.#reasons.delete(part);
    else this.#reasons.set(part, reason);
  }

  incomplete(): IncompletePart[] {
    return [...this.#reasons].map(([part, reason]) => ({ part, reason }));
  }
}
