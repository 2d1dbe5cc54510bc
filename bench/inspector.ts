/**
 * Reads the heap of another Node.js process through its inspector: its size, and its objects by
 * kind.
 */
import { WebSocket } from "ws";
import { z } from "zod";

interface ObjectCount {
  readonly count: number;
  readonly bytes: number;
}

const Frame = z.object({
  id: z.number().optional(),
  method: z.string().optional(),
  params: z.object({ chunk: z.string() }).partial().optional(),
  result: z.unknown().optional(),
  error: z.object({ message: z.string() }).optional(),
});

/** The parts of a heap snapshot that are used. Each node is `node_fields.length` numbers. */
const Snapshot = z.object({
  snapshot: z.object({ meta: z.object({ node_fields: z.array(z.string()), node_types: z.array(z.unknown()) }) }),
  nodes: z.array(z.number()),
  strings: z.array(z.string()),
});

/** Kinds whose names are not counted separately, because each value has a name of its own. */
const UNNAMED = new Set(["string", "concatenated string", "sliced string", "number", "bigint", "code", "hidden"]);

export class Inspector {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (frame: z.infer<typeof Frame>) => void>();
  #chunks: string[] = [];
  #count = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on("message", (bytes: Buffer) => {
      const frame = Frame.parse(JSON.parse(bytes.toString("utf8")));
      if (frame.method === "HeapProfiler.addHeapSnapshotChunk") this.#chunks.push(frame.params?.chunk ?? "");
      if (frame.id === undefined) return;
      this.#waiting.get(frame.id)?.(frame);
      this.#waiting.delete(frame.id);
    });
  }

  /** @param url that the process printed when it began to listen. */
  static async open(url: string): Promise<Inspector> {
    const socket = new WebSocket(url, { maxPayload: 2 ** 30 });
    await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
    return new Inspector(socket);
  }

  /** Bytes of the heap after a collection. */
  async heapBytes(): Promise<number> {
    // What finalizers release is collected by the second.
    for (let i = 0; i < 2; i += 1) await this.#call("HeapProfiler.collectGarbage");
    return z.object({ usedSize: z.number() }).parse(await this.#call("Runtime.getHeapUsage")).usedSize;
  }

  /** The objects on the heap by kind and constructor. */
  async countObjects(): Promise<Map<string, ObjectCount>> {
    this.#chunks = [];
    await this.#call("HeapProfiler.collectGarbage");
    await this.#call("HeapProfiler.takeHeapSnapshot", { reportProgress: false });
    const { snapshot, nodes, strings } = Snapshot.parse(JSON.parse(this.#chunks.join("")));
    this.#chunks = [];
    const { node_fields: fields, node_types: types } = snapshot.meta;
    const kinds = z.array(z.string()).parse(types[0]);
    const [type, name, size] = ["type", "name", "self_size"].map((field) => fields.indexOf(field));
    const found = new Map<string, { count: number; bytes: number }>();
    for (let at = 0; at < nodes.length; at += fields.length) {
      const read = (offset = 0): number => nodes[at + offset] ?? 0;
      const kind = kinds[read(type)] ?? "";
      const key = UNNAMED.has(kind) ? kind : `${kind} ${strings[read(name)]?.slice(0, 60)}`;
      const known = found.get(key) ?? { count: 0, bytes: 0 };
      known.count += 1;
      known.bytes += read(size);
      found.set(key, known);
    }
    return found;
  }

  close(): void {
    this.#socket.terminate();
  }

  #call(method: string, params: object = {}): Promise<unknown> {
    const id = (this.#count += 1);
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, ({ error, result }) =>
        error === undefined ? resolve(result) : reject(new Error(`${method}: ${error.message}`)),
      );
      this.#socket.send(JSON.stringify({ id, method, params }));
    });
  }
}
