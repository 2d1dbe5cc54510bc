/** The port to forges. */
import type { GitAuth } from "./ports.ts";

/** Opens pull requests. Find-or-create by head branch, so that doing it twice gives the same one. */
export interface Forge {
  /** True when this forge serves the repository. */
  serves(repo: string): boolean;
  openPullRequest(
    request: {
      readonly repo: string;
      readonly auth: GitAuth | null;
      readonly head: string;
      readonly base: string;
      readonly title: string;
      readonly body: string;
      readonly draft: boolean;
    },
    signal: AbortSignal,
  ): Promise<{ url: string; number: number; state: string }>;
}
