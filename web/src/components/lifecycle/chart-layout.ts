/**
 * The layout of the statechart's drawing, tall for phones and wide for desks. A test compares its
 * states and edges with the chart that runs (machines/task.ts).
 */
import type { Appearance } from "../../lib/tasks/task-view.ts";

export interface ChartLayout {
  readonly viewBox: string;
  /** `from>to` and the path between them. */
  readonly edges: readonly (readonly [string, string])[];
  readonly regions: readonly {
    readonly name: string;
    readonly x: number;
    readonly y: number;
    readonly width: number;
    readonly height: number;
    readonly textX: number;
    readonly textY: number;
    readonly anchor: "start" | "end";
  }[];
  readonly states: readonly {
    readonly name: string;
    readonly appearance: Appearance;
    /** x, y, width, height. */
    readonly box: readonly [number, number, number, number];
    /** x of the icon; null = no room for one. */
    readonly icon: number | null;
    readonly textX: number;
    readonly isCentered: boolean;
  }[];
  readonly labels: readonly { readonly x: number; readonly y: number; readonly text: string }[];
}

export const TALL: ChartLayout = {
  viewBox: "0 0 358 622",
  edges: [
    ["branch>done", "M120 472V556"],
    ["pull_request>done", "M203 472V572Q203 582 199 583"],
    ["awaiting_input>working", "M150 248H145"],
    ["awaiting_input>parked", "M203 258V282"],
    ["working>parked", "M140 310H145"],
    ["branch>pull_request", "M146 450H151"],
    ["parked>queued", "M248 310H252Q259 310 259 302V40Q259 30 250 30H201"],
    ["queued>pushing", "M84 50H76Q68 50 68 58V402Q68 410 76 410H79"],
    ["provisioning>retrying", "M84 112H52Q42 112 42 122V289"],
    ["retrying>queued", "M16 294V42Q16 32 26 32H79"],
    ["pushing>retrying", "M84 468H26Q16 468 16 458V340"],
    ["retrying>pushing", "M42 334V440Q42 448 50 448H79"],
    ["queued>cancelled", "M196 24H342Q350 24 350 32V393"],
    ["provisioning>cancelling", "M208 110H298Q308 110 308 120V225"],
    ["cancelling>cancelled", "M308 270V393"],
    ["parked>cancelled", "M248 324H282Q290 324 290 332V393"],
    ["pushing>cancelled", "M252 418H271"],
    ["retrying>cancelled", "M52 334V362Q52 370 60 370H320Q330 370 330 380V393"],
    ["queued>failed", "M196 46H260Q268 46 268 54V574Q268 583 271 583"],
    ["provisioning>failed", "M208 130H258Q268 130 268 140V574Q268 583 271 583"],
    ["pushing>failed", "M252 462H258Q268 462 268 472V574Q268 583 271 583"],
    ["queued>provisioning", "M120 58V92"],
    ["provisioning>working", "M120 142V208"],
    ["working>branch", "M120 332V422"],
    ["working>awaiting_input", "M140 230H145"],
    ["working>done", "M86 318H83Q75 318 75 326V574Q75 582 79 582"],
    ["running>retrying", "M80 306H65"],
    ["running>cancelling", "M252 250H271"],
    ["running>failed", "M252 276H258Q268 276 268 286V574Q268 583 271 583"],
  ],
  regions: [
    { name: "running", x: 80, y: 184, width: 172, height: 158, textX: 240, textY: 204, anchor: "end" },
    { name: "pushing", x: 84, y: 398, width: 168, height: 84, textX: 240, textY: 418, anchor: "end" },
  ],
  states: [
    {
      name: "queued",
      appearance: "queued",
      box: [84, 18, 112, 40],
      icon: 94,
      textX: 118,

      isCentered: false,
    },
    {
      name: "provisioning",
      appearance: "provisioning",
      box: [84, 98, 124, 44],
      icon: 94,
      textX: 118,

      isCentered: false,
    },
    {
      name: "done",
      appearance: "done",
      box: [84, 562, 112, 42],
      icon: 94,
      textX: 118,

      isCentered: false,
    },
    { name: "retrying", appearance: "retrying", box: [2, 294, 58, 40], icon: null, textX: 31, isCentered: true },
    {
      name: "cancelling",
      appearance: "cancelling",
      box: [276, 230, 68, 40],
      icon: null,
      textX: 310,

      isCentered: true,
    },
    {
      name: "cancelled",
      appearance: "cancelled",
      box: [276, 398, 80, 42],
      icon: null,
      textX: 316,

      isCentered: true,
    },
    { name: "failed", appearance: "failed", box: [276, 562, 80, 42], icon: null, textX: 316, isCentered: true },
    { name: "working", appearance: "running", box: [86, 214, 54, 118], icon: null, textX: 113, isCentered: true },
    {
      name: "awaiting_input",
      appearance: "awaiting",
      box: [150, 214, 98, 44],
      icon: null,
      textX: 199,

      isCentered: true,
    },
    { name: "parked", appearance: "parked", box: [150, 288, 98, 44], icon: null, textX: 199, isCentered: true },
    { name: "branch", appearance: "pushing", box: [92, 428, 54, 44], icon: null, textX: 119, isCentered: true },
    {
      name: "pull_request",
      appearance: "pushing",
      box: [156, 428, 92, 44],
      icon: null,
      textX: 202,

      isCentered: true,
    },
  ],
  labels: [
    { x: 127, y: 80, text: "claimed" },
    { x: 127, y: 166, text: "ready" },
    { x: 127, y: 386, text: "finished" },
    { x: 127, y: 528, text: "push" },
  ],
};

export const WIDE: ChartLayout = {
  viewBox: "0 -8 1040 440",
  edges: [
    ["branch>done", "M834 100C880 100 878 112 912 112"],
    ["pull_request>done", "M834 164C880 164 878 132 912 132"],
    ["awaiting_input>working", "M508 110C496 110 496 134 484 134"],
    ["awaiting_input>parked", "M575 122V137"],
    ["working>parked", "M478 142C496 142 496 164 509 164"],
    ["branch>pull_request", "M775 122V137"],
    ["parked>queued", "M556 186V214Q556 222 548 222H102Q94 222 94 214V152"],
    ["queued>pushing", "M76 94V32Q76 24 84 24H754Q762 24 762 32V38"],
    ["provisioning>retrying", "M232 146V290"],
    ["retrying>queued", "M188 322H72Q64 322 64 314V152"],
    ["pushing>retrying", "M730 200V268Q730 276 722 276H290Q282 276 282 284V290"],
    ["retrying>pushing", "M282 348V364Q282 372 290 372H768Q776 372 776 364V206"],
    ["queued>cancelled", "M40 146V392Q40 400 48 400H620Q628 400 628 392V354"],
    ["provisioning>cancelling", "M288 146V232Q288 240 296 240H440Q448 240 448 248V290"],
    ["cancelling>cancelled", "M532 322H586"],
    ["parked>cancelled", "M604 186V230Q604 238 612 238H630Q638 238 638 246V290"],
    ["pushing>cancelled", "M712 200V250Q712 258 704 258H680Q672 258 672 266V290"],
    ["retrying>cancelled", "M244 348V378Q244 386 252 386H660Q668 386 668 378V354"],
    ["queued>failed", "M28 146V406Q28 414 36 414H962Q970 414 970 406V354"],
    [
      "provisioning>failed",
      "M200 146V178Q200 186 192 186H172Q164 186 164 194V406Q164 414 172 414H962Q970 414 970 406V354",
    ],
    ["pushing>failed", "M838 200V314Q838 322 846 322H912"],
    ["queued>provisioning", "M132 120H182"],
    ["provisioning>working", "M312 120H380"],
    ["working>branch", "M478 112C498 112 492 60 520 60H676Q690 60 690 80V92Q690 100 698 100H710"],
    ["working>awaiting_input", "M478 120C492 120 490 94 501 94"],
    ["working>done", "M460 104V20Q460 10 470 10H960Q970 10 970 20V88"],
    ["running>retrying", "M400 200V250Q400 258 392 258H268Q260 258 260 266V290"],
    ["running>cancelling", "M492 200V290"],
    ["running>failed", "M384 200V406Q384 414 392 414H962Q970 414 970 406V354"],
  ],
  regions: [
    { name: "running", x: 370, y: 44, width: 280, height: 156, textX: 382, textY: 64, anchor: "start" },
    { name: "pushing", x: 700, y: 44, width: 150, height: 156, textX: 712, textY: 64, anchor: "start" },
  ],
  states: [
    {
      name: "queued",
      appearance: "queued",
      box: [20, 94, 112, 52],
      icon: 30,
      textX: 54,

      isCentered: false,
    },
    {
      name: "provisioning",
      appearance: "provisioning",
      box: [188, 94, 124, 52],
      icon: 198,
      textX: 222,

      isCentered: false,
    },
    {
      name: "done",
      appearance: "done",
      box: [918, 94, 104, 52],
      icon: 928,
      textX: 952,

      isCentered: false,
    },
    {
      name: "retrying",
      appearance: "retrying",
      box: [188, 296, 112, 52],
      icon: 198,
      textX: 222,

      isCentered: false,
    },
    {
      name: "cancelling",
      appearance: "cancelling",
      box: [420, 296, 112, 52],
      icon: 430,
      textX: 454,

      isCentered: false,
    },
    {
      name: "cancelled",
      appearance: "cancelled",
      box: [592, 296, 112, 52],
      icon: 602,
      textX: 626,

      isCentered: false,
    },
    {
      name: "failed",
      appearance: "failed",
      box: [918, 296, 104, 52],
      icon: 928,
      textX: 952,

      isCentered: false,
    },
    { name: "working", appearance: "running", box: [386, 104, 92, 44], icon: null, textX: 432, isCentered: true },
    {
      name: "awaiting_input",
      appearance: "awaiting",
      box: [506, 78, 140, 44],
      icon: 516,
      textX: 540,

      isCentered: false,
    },
    {
      name: "parked",
      appearance: "parked",
      box: [514, 142, 128, 44],
      icon: 524,
      textX: 548,

      isCentered: false,
    },
    {
      name: "branch",
      appearance: "pushing",
      box: [716, 78, 118, 44],
      icon: 722,
      textX: 744,

      isCentered: false,
    },
    {
      name: "pull_request",
      appearance: "pushing",
      box: [716, 142, 118, 44],
      icon: 722,
      textX: 744,

      isCentered: false,
    },
  ],
  labels: [
    { x: 139, y: 112, text: "claimed" },
    { x: 328, y: 112, text: "ready" },
    { x: 540, y: 56, text: "finished" },
    { x: 110, y: 338, text: "again" },
    { x: 690, y: 366, text: "the push failed" },
    { x: 330, y: 216, text: "answer" },
    { x: 640, y: 5, text: "no changes" },
  ],
};

/** States that contain others: an edge from a region starts in each of its states. */
export const REGIONS: Readonly<Record<string, string>> = {
  working: "running",
  awaiting_input: "running",
  parked: "running",
  branch: "pushing",
  pull_request: "pushing",
};

/** The states that an edge leads to, from a state or from the region that it is in. */
export const findNext = (state: string): readonly string[] =>
  TALL.edges
    .map(([edge]) => edge.split(">"))
    .filter(([from]) => from === state || from === REGIONS[state])
    .map(([, to = ""]) => to);
