/**
 * Schemas of the two kinds of containers that Slipway creates: for a worker, and for reading and
 * writing files (never started). Unknown fields are refused. The parsed value is forwarded instead
 * of the request, so a field that is spelled differently cannot reach the engine.
 */
import { z } from "zod";
import { LABELS, SOCKET_TARGET, WORKER_UID, WORKSPACE } from "../container-spec.ts";
import { seccompProfile } from "../hardening/seccomp.ts";
import { DERIVED, NEVER_STARTED, PREPARE_LABEL } from "../image/names.ts";

/** Containers and volumes of attempts and of the warm pool. */
export const OWN_NAME = /^slipway-[A-Za-z0-9][\w.-]*$/;
const ABSOLUTE = /^\/[^,:\0]*$/;
const NO_NEW_PRIVILEGES = "no-new-privileges:true";

export interface Installation {
  readonly instance: string;
  /** Folder of the brokers' socket folders, on the engine's machine. */
  readonly sockets: string;
}

const strings = z.array(z.string());
const size = z.int().positive();
const nameSchema = z.union([z.literal(""), z.string().regex(OWN_NAME)]).optional();
const noneSchema = z.literal("none");

/** In place of a volume that the image declares. */
const tmpfsMountSchema = z.strictObject({
  Type: z.literal("tmpfs"),
  Source: z.literal(""),
  Target: z.string().regex(ABSOLUTE),
  TmpfsOptions: z.strictObject({ SizeBytes: size, Mode: z.int() }),
});

/** A volume of the engine, without a device or a folder behind it. */
const createWorkspaceSchema = (instance: string) =>
  z.strictObject({
    Type: z.literal("volume"),
    Source: z.string().regex(OWN_NAME),
    Target: z.literal(WORKSPACE),
    VolumeOptions: z.strictObject({
      NoCopy: z.literal(false),
      Labels: z.strictObject({ [LABELS.instance]: z.literal(instance), [LABELS.disk]: z.string() }),
      DriverConfig: z.strictObject({ Name: z.literal("local"), Options: z.strictObject({}) }),
    }),
  });

function createMountSchema({ instance, sockets }: Installation) {
  const isBelow = (path: string): boolean =>
    path.startsWith(`${sockets}/`) && /^[\w-]+$/.test(path.slice(sockets.length + 1));
  const socketSchema = z.strictObject({
    Type: z.literal("bind"),
    Source: z.string().refine(isBelow),
    Target: z.literal(SOCKET_TARGET),
    ReadOnly: z.literal(true),
  });
  return z.discriminatedUnion("Type", [tmpfsMountSchema, createWorkspaceSchema(instance), socketSchema]);
}

/** Confined as createContainerSpec confines a worker. */
function createHostConfigSchema(installation: Installation) {
  return z.strictObject({
    NetworkMode: noneSchema,
    CapDrop: z.tuple([z.literal("ALL")]),
    Privileged: z.literal(false),
    SecurityOpt: z
      .array(z.enum([NO_NEW_PRIVILEGES, `seccomp=${seccompProfile()}`]))
      .refine((options) => options.includes(NO_NEW_PRIVILEGES)),
    ReadonlyRootfs: z.literal(true),
    Init: z.literal(true),
    AutoRemove: z.literal(false),
    RestartPolicy: z.strictObject({ Name: z.literal("no") }),
    IpcMode: z.literal("private"),
    CgroupnsMode: z.literal("private"),
    ShmSize: size,
    PidsLimit: size,
    Memory: size,
    MemorySwap: size,
    NanoCpus: size,
    CpuShares: size,
    OomScoreAdj: z.int().min(0),
    Ulimits: z.array(z.strictObject({ Name: z.string(), Soft: z.int().min(0), Hard: z.int().min(0) })),
    Tmpfs: z.record(z.string().regex(ABSOLUTE), z.string()),
    LogConfig: z.strictObject({ Type: z.literal("json-file"), Config: z.record(z.string(), z.string()) }),
    Mounts: z.array(createMountSchema(installation)),
  });
}

function createWorkerSchema(installation: Installation) {
  const { instance } = installation;
  return z.strictObject({
    name: nameSchema,
    Image: z.string(),
    Labels: z
      .partialRecord(z.enum([...Object.values(LABELS), PREPARE_LABEL]), z.string())
      .refine((labels) => labels[LABELS.instance] === instance || labels[PREPARE_LABEL] === instance),
    User: z.literal(`${WORKER_UID}:${WORKER_UID}`),
    WorkingDir: z.literal(WORKSPACE),
    Env: strings,
    Entrypoint: strings.optional(),
    Cmd: strings.optional(),
    Tty: z.literal(false),
    OpenStdin: z.literal(false),
    StopSignal: z.literal("SIGTERM").optional(),
    Healthcheck: z.strictObject({ Test: z.tuple([z.literal("NONE")]) }),
    HostConfig: createHostConfigSchema(installation),
  });
}

const createStoppedSchema = (instance: string) =>
  z.strictObject({
    Image: z.string(),
    Entrypoint: z.tuple([z.literal(NEVER_STARTED)]),
    Labels: z.strictObject({ [PREPARE_LABEL]: z.literal(instance) }),
    HostConfig: z.strictObject({ NetworkMode: noneSchema, Mounts: z.array(tmpfsMountSchema) }),
  });

export const createCreatedSchema = (installation: Installation) =>
  z.union([createWorkerSchema(installation), createStoppedSchema(installation.instance)]);

export const committedSchema = z.strictObject({
  Labels: z.strictObject({
    [DERIVED.from]: z.string(),
    [DERIVED.base]: z.string(),
    [DERIVED.worker]: z.string(),
  }),
});
