/**
 * The events of an engine, followed from the start of a test on. The engine itself keeps the last
 * 256 of all containers, which other tests replace within seconds.
 */
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import type Docker from "dockerode";
import { eventually } from "../process/server.ts";

interface EngineEvent {
  readonly Type: string;
  readonly Action: string;
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> };
}

export class EngineEvents {
  readonly #docker: Docker;
  readonly #stream: Readable;
  readonly #seen: EngineEvent[] = [];

  private constructor(docker: Docker, stream: Readable) {
    this.#docker = docker;
    this.#stream = stream;
    stream.on("error", () => undefined);
    createInterface({ input: stream }).on("line", (line) => this.#seen.push(JSON.parse(line) as EngineEvent));
  }

  /** All events from now on. */
  static async follow(docker: Docker): Promise<EngineEvents> {
    return new EngineEvents(docker, (await docker.getEvents()) as Readable);
  }

  /**
   * Resolves when everything that happened before the call has been reported.
   * @returns the attributes of the containers with these events and labels, in order: `name`, and
   * their labels.
   */
  async ofContainers(action: string, labels: Readonly<Record<string, string>>): Promise<Record<string, string>[]> {
    const mark = `slipway-mark-${randomUUID()}`;
    await this.#docker.createVolume({ Name: mark });
    await eventually(
      () => Promise.resolve(this.#seen.some(({ Actor }) => Actor.ID === mark) ? true : null),
      "the engine reports a volume",
    );
    await this.#docker.getVolume(mark).remove();
    return this.#seen
      .filter(({ Type, Action }) => Type === "container" && Action === action)
      .map(({ Actor }) => ({ ...Actor.Attributes }))
      .filter((found) => Object.entries(labels).every(([label, value]) => found[label] === value));
  }

  close(): void {
    this.#stream.destroy();
  }
}
