/** The form of a setting, and the values that hold where nothing was chosen. */
export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;

export interface Setting {
  readonly env: string;
  /** Long flag without dashes. */
  readonly flag: string;
  readonly argument: string;
  readonly help: string;
  /** Its value is never repeated in a message. */
  readonly secret?: true;
  /** The name of an earlier version, accepted with a warning until the next minor version. */
  readonly formerly?: { readonly env: string; readonly flag: string };
  /** Variables of other programs that give it when its own does not, the first that is set. */
  readonly also?: readonly string[];
}

export const DEFAULTS = {
  host: "127.0.0.1",
  port: "7080",
  dataDir: ".slipway",
  sandbox: "docker",
  maxConcurrent: "4",
  warm: "1",
  workerTools: "full",
  model: "claude-sonnet-5-5",
  reviewModel: "claude-haiku-5-5",
} as const;
export const DISK = { mode: "auto", mb: 4_096, maxMb: 16_384, minFreeMb: 2_048 } as const;
/** Of pull requests, and of people's log-in with GitHub. */
export const GITHUB = { url: "https://github.com", apiUrl: "https://api.github.com" } as const;
/** Public forges that need no setting. */
export const FORGES = "gitlab=https://gitlab.com,forgejo=https://codeberg.org";
export const ANTHROPIC = "https://api.anthropic.com";
