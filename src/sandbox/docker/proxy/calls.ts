/** The calls that Slipway makes to the engine. All others are refused. */
import { DERIVED_REPOSITORY, WORKER_REPOSITORY } from "../image/names.ts";
import { OWN_NAME } from "./created.ts";

/** What a call is about; it is looked up first, and must be this installation's. */
export type Subject = "containers" | "volumes" | "networks";
/** `tar`: passed on as it comes. The others are read, checked and written anew. */
type Body = "tar" | "created" | "committed";

export interface Call {
  readonly methods: readonly string[];
  /** Named group `subject`: name or id of what the call is about, unless the query has it. */
  readonly path: RegExp;
  readonly subject?: Subject;
  readonly body?: Body;
  /** Parameters, and what their values must look like. */
  readonly query: Readonly<Record<string, RegExp>>;
  /** Other parameters are left out instead of refused: dockerode repeats the body in the query. */
  readonly dropsOther?: true;
}

const ANY = /^/;
const FLAG = /^(?:true|false|1|0)$/;
const SEGMENT = "[A-Za-z0-9][\\w.:@-]*";
const IMAGE = `${SEGMENT}(?:/${SEGMENT})*`;
const OWN_IMAGE = `(?:${WORKER_REPOSITORY}|${DERIVED_REPOSITORY}):[\\w.-]+`;

const read = (path: string, query: Call["query"] = {}): Call => ({
  methods: ["GET"],
  path: new RegExp(`^${path}$`),
  query,
});

/** A call about one container, volume or network. */
function about(subject: Subject, methods: readonly string[], rest: string, query: Call["query"] = {}): Call {
  return { methods, path: new RegExp(`^/${subject}/(?<subject>[A-Za-z0-9][\\w.-]*)${rest}$`), subject, query };
}

export const CALLS: readonly Call[] = [
  ...["_ping", "info", "version", "system/df"].map((name) => read(`/${name}`)),
  read("/events", { filters: ANY }),
  read("/containers/json", { all: FLAG, filters: ANY }),
  read("/images/json"),
  read("/volumes", { filters: ANY }),
  read("/networks", { filters: ANY }),
  read(`/images/${IMAGE}/json`),
  about("containers", ["GET"], "/json"),
  about("containers", ["GET"], "/logs", { follow: FLAG, stdout: FLAG, stderr: FLAG, tail: /^\d+$/ }),
  about("containers", ["GET", "HEAD"], "/archive", { path: ANY }),
  { ...about("containers", ["PUT"], "/archive", { path: ANY }), body: "tar" },
  {
    methods: ["POST"],
    path: /^\/containers\/create$/,
    body: "created",
    query: { name: new RegExp(`^$|${OWN_NAME.source}`) },
    dropsOther: true,
  },
  about("containers", ["POST"], "/(?:start|wait)"),
  about("containers", ["POST"], "/kill", { signal: /^SIG(?:TERM|KILL)$/ }),
  about("containers", ["POST"], "/rename", { name: OWN_NAME }),
  about("containers", ["DELETE"], "", { force: FLAG, v: FLAG }),
  about("volumes", ["DELETE"], ""),
  about("networks", ["DELETE"], ""),
  {
    methods: ["POST"],
    path: /^\/commit$/,
    subject: "containers",
    body: "committed",
    query: { container: ANY, pause: FLAG },
  },
  // From a registry, not from an address.
  {
    methods: ["POST"],
    path: /^\/images\/create$/,
    query: { fromImage: new RegExp(`^${IMAGE}$`), tag: /^[\w.:@-]+$/ },
  },
  {
    methods: ["POST"],
    path: new RegExp(`^/images/${IMAGE}/tag$`),
    query: { repo: new RegExp(`^${DERIVED_REPOSITORY}$`), tag: /^[\w.-]+$/ },
  },
  {
    methods: ["DELETE"],
    path: new RegExp(`^/images/(?:${OWN_IMAGE}|sha256:[0-9a-f]{64})$`),
    query: { noprune: FLAG },
  },
  // Without the host's network, and from what is sent, not from an address.
  {
    methods: ["POST"],
    path: /^\/build$/,
    body: "tar",
    query: {
      t: new RegExp(`^${OWN_IMAGE}$`),
      target: /^worker$/,
      rm: FLAG,
      forcerm: FLAG,
      buildargs: ANY,
    },
  },
];
