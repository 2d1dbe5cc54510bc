/**
 * The log of the server: a line of JSON per record, without the secrets that the server knows. Each
 * line is redacted whole.
 */
import pino from "pino";
import { Redactor } from "../../core/lib/json/redaction.ts";
import type { Config } from "../config.ts";

/** Secrets that no line of the log may hold. They are few, as each line is searched for all. */
export class KnownSecrets {
  readonly #values = new Set<string>();
  #redactor = new Redactor([]);

  add(...values: readonly (string | null | undefined)[]): void {
    for (const value of values) if (value) this.#values.add(value);
    this.#redactor = new Redactor([...this.#values]);
  }

  redact(line: string): string {
    return this.#redactor.redact(line);
  }
}

/** Those of the settings. */
export function secretsOf(
  config: Pick<Config, "secretKey" | "anthropicApiKey" | "admin" | "providers" | "s3">,
): (string | null | undefined)[] {
  const clients = config.providers.map(({ clientSecret }) => clientSecret);
  const { secret, sessionToken } = config.s3;
  return [config.secretKey, config.anthropicApiKey, config.admin?.password, secret, sessionToken, ...clients];
}

/** Levels and times that people can read. */
export function openLog(
  level: Config["logLevel"],
  secrets: KnownSecrets,
  destination: pino.DestinationStream = pino.destination({ dest: 2, sync: false }),
): pino.Logger {
  const options: pino.LoggerOptions = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    hooks: { streamWrite: (line) => secrets.redact(line) },
  };
  return pino(options, destination);
}
