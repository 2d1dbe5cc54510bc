/**
 * `npm run bench`: one table; each row is a figure beside a floor that was measured in the same
 * run. Ratios travel between machines, figures do not.
 */
import { agentFigures, type AgentFigures } from "./suites/agent.ts";
import { boot, type Boot } from "./suites/boot.ts";
import { browserFigures, whyNoBrowser, type BrowserFigures } from "./suites/browser/figures.ts";
import { fanout, type FanoutResult } from "./suites/live/fanout.ts";
import { hubRates, type HubRates } from "./suites/live/hub.ts";
import { load, type Load } from "./suites/live/load.ts";
import { endpoints, type Endpoints } from "./suites/endpoints.ts";
import { lists, type Lists } from "./suites/lists.ts";
import { lifecycles, submitToStart, type Latencies, type Lifecycles } from "./suites/lifecycle.ts";
import { provision, whyNoDocker, type Provision } from "./suites/docker/provision.ts";
import { outputFigures, type OutputFigures } from "./suites/docker/output.ts";
import { setupFigures, type SetupFigures } from "./suites/docker/setup.ts";
import { record, type Rates } from "./suites/record.ts";
import { recovery, type Recovery } from "./suites/recovery.ts";
import { restart, RESTART_SIZE, type Restart } from "./suites/restart.ts";
import { reviewFigures, type ReviewedCost, type ReviewFigures } from "./suites/review.ts";
import { soak, SOAK } from "./suites/soak.ts";
import { ms, n, pct, table, usd, type Row } from "./table.ts";

/**
 * `npm run bench -- docker` measures containers alone, `-- agent` the model's turns and a reviewer,
 * `-- hub` the hub, `-- load` a server with many people, `-- lists` lists of many tasks,
 * `-- endpoints` the worst of each endpoint that reads, `-- browser` the web app. Apart, because
 * they take long: `-- setup`, what `npm ci` of 500 packages costs the first task and later ones,
 * `-- output`, how late live output is, `-- restart`, what a start costs after much has happened,
 * and `-- soak` (suites/soak.ts).
 */
const only = process.argv[2];

const say = (text: string): void => void process.stderr.write(`bench: ${text}\n`);

/** One after the other: two at once would measure each other. */
async function measure() {
  if (only === "agent") return [...agentRows(await agentFigures()), ...reviewRows(await reviewFigures())];
  if (only === "hub") return hubRows(await hubFigures());
  if (only === "load") return loadRows(await load());
  if (only === "lists") return listRows(await lists());
  if (only === "endpoints") return endpointRows(await endpoints());
  if (only === "restart") return restartRows(await restart());
  if (only === "browser") return browserRows(whyNoBrowser() ?? (await browserFigures()));
  const missing = await whyNoDocker();
  if (only === "setup") return setupRows(missing ?? (await setupFigures()));
  if (only === "output") return outputRows(missing ?? (await outputFigures()));
  const provisioned = missing ?? (say("tasks in containers"), await provision());
  if (only === "docker") return toRows(provisioned);
  say("boot with 10,000 open tasks");
  const started = await boot();
  say("record against bare better-sqlite3");
  const recorded = await record();
  say("no-op lifecycles");
  const lived = await lifecycles();
  say("submit to start");
  const waited = await submitToStart();
  say("fan-out to 2,000 sockets");
  const fanned = await fanout({ sockets: 2_000 });
  say("events through the hub");
  const caughtUp = await hubFigures();
  say("2,000 sockets and 200 requests/s");
  const loaded = await load();
  say("SIGKILL of the coordinator to the next event");
  const recovered = await recovery();
  say("lists of 10,000 tasks");
  const listed = await lists();
  say("the worst of each endpoint");
  const worst = await endpoints();
  say("turns of a model");
  const turned = await agentFigures();
  say("tasks with a reviewer");
  const reviewed = await reviewFigures();
  say("the web app in a browser");
  const browsed = whyNoBrowser() ?? (await browserFigures());
  return [
    ...rows({ started, recorded, lived, waited, fanned, recovered }),
    ...hubRows(caughtUp),
    ...loadRows(loaded),
    ...listRows(listed),
    ...endpointRows(worst),
    ...agentRows(turned),
    ...reviewRows(reviewed),
    ...browserRows(browsed),
    ...toRows(provisioned),
  ];
}

const hubFigures = async (): Promise<HubRates[]> => [await hubRates(200, 10_000), await hubRates(8_000, 2_000)];

function hubRows(rates: readonly HubRates[]): Row[] {
  return rates.map(({ textBytes, ours, floor }) => ({
    what: `events/s through the hub, ${n(textBytes)} bytes of text each`,
    ours: n(ours),
    floor: `${n(floor)} = rows parsed and written as JSON again`,
    ratio: `${(ours / floor).toFixed(2)}x`,
    aim: ">= 1x",
  }));
}

function loadRows({ sockets, perSecond, seconds, reads, logins, refreshes, errors, lag }: Load): Row[] {
  const under = `${n(sockets)} sockets and ${perSecond} requests/s for ${seconds} s`;
  const row = (what: string, ours: string, aim: string): Row => ({ what, ours, floor: "-", ratio: "-", aim });
  const spread = ({ p50, p99 }: Load["reads"]): string => `${ms(p50)} / ${ms(p99)}`;
  return [
    row(`${under}: reads p50 / p99 (${n(reads.count)})`, spread(reads), "-"),
    row(`the same: refreshes p50 / p99 (${n(refreshes.count)})`, spread(refreshes), "-"),
    row(`the same: log-ins p50 / p99 (${n(logins.count)})`, spread(logins), "-"),
    row("the same: errors, and sockets that closed", n(errors), "0"),
    row(
      "the same: lag of the event loop p50 / p99 / most",
      `${ms(lag.p50)} / ${ms(lag.p99)} / ${ms(lag.max)}`,
      "< 20 ms p99",
    ),
  ];
}

function listRows({ tasks, waitingMs, search }: Lists): Row[] {
  const row = (what: string, ours: number, aim: string): Row => ({ what, ours: ms(ours), floor: "-", ratio: "-", aim });
  return [
    row(`longest hold of the event loop: 200 waiting tasks of ${n(tasks)}, with positions`, waitingMs, "<= 50 ms"),
    row(`the same: the worst search of ${n(tasks)} tasks`, search.holdMs, "<= 50 ms"),
    row(`the worst search of ${n(tasks)} tasks, until its answer`, search.totalMs, "-"),
  ];
}

function endpointRows({ tasks, events, atOnce, found }: Endpoints): Row[] {
  const on = `${n(tasks)} tasks and a log of ${n(events)} events`;
  const figures = `longest hold of the loop / answer / memory of ${atOnce} at once`;
  return found.map(({ what, holdMs, memoryMb, ms: answerMs }, i) => ({
    what: `${i === 0 ? `${figures}, with ${on}` : "the same"}: ${what}`,
    ours: `${ms(holdMs)} / ${ms(answerMs)} / ${memoryMb.toFixed(0)} MB`,
    floor: "-",
    ratio: "-",
    aim: "<= 50 ms",
  }));
}

function restartRows({ empty, parked, settled }: Restart): Row[] {
  const size = RESTART_SIZE;
  const times = (a: number, b: number): string => `${(a / b).toFixed(2)}x`;
  const row = (what: string, ours: number, floor: number, aim: string): Row => ({
    what,
    ours: ms(ours),
    floor: `${ms(floor)} = an empty installation`,
    ratio: times(ours, floor),
    aim,
  });
  const afterParked = `${n(size.parked)} parked tasks of ${n(size.parkedEvents)} events`;
  const afterSettled = `${n(size.settled)} settled tasks, ${n(size.settled * size.settledEvents)} events`;
  return [
    row(`start to the end of a new task, with ${afterParked}`, parked.firstTaskMs, empty.firstTaskMs, "<= 1.5x"),
    row(`start to listening, with ${afterParked}`, parked.listeningMs, empty.listeningMs, "-"),
    row(`start to the end of a new task, with ${afterSettled}`, settled.firstTaskMs, empty.firstTaskMs, "-"),
    row(`start to listening, with ${afterSettled}`, settled.listeningMs, empty.listeningMs, "<= 1.1x"),
  ];
}

function agentRows({ turn, firstPiece, streams, admission }: AgentFigures): Row[] {
  const row = (what: string, { ours, floor }: AgentFigures["turn"], aim: string): Row => ({
    what,
    ours: ms(ours),
    floor: `${ms(floor)} = the client library alone`,
    ratio: `${(ours / floor).toFixed(2)}x, ${ours >= floor ? "+" : ""}${(ours - floor).toFixed(1)} ms`,
    aim,
  });
  return [
    row("a turn of the agent p50", turn, "<= +15 ms"),
    row("request to first piece of the answer p50", firstPiece, "<= +3 ms"),
    row("50 answers streamed at once, until the last ended", streams, "-"),
    {
      what: "admission of a model call, three budgets, durable, p50 / p99",
      ours: `${ms(admission.p50)} / ${ms(admission.p99)}`,
      floor: "- (one commit)",
      ratio: "-",
      aim: "<= 10 ms p50",
    },
  ];
}

function reviewRows({ rounds, lines, unreviewed, accepted, sentBack }: ReviewFigures): Row[] {
  const row = (what: string, cost: ReviewedCost): Row => {
    const { usd: spent, inputTokens, outputTokens, ms: turnMs } = cost.review;
    const { addedMs: added } = cost;
    return {
      what: `reviewer's cost per task of ${n(cost.requests)} requests and ${n(lines)} lines, p50 of ${rounds}: ${what}`,
      ours: `${usd(spent)}, ${n(inputTokens)} + ${n(outputTokens)} tokens, ${ms(turnMs)}`,
      floor: `${usd(unreviewed.usd)}, ${ms(unreviewed.ms)} from delivery to push = without it`,
      ratio: `${pct(spent / cost.usd)} of ${usd(cost.usd)}, ${added >= 0 ? "+" : ""}${added.toFixed(0)} ms`,
      aim: "-",
    };
  };
  return [row("accepted", accepted), row("sent back once", sentBack)];
}

/** @param found the figures, or why there are none. */
function browserRows(found: BrowserFigures | string): Row[] {
  const row = (what: string, ours: string, aim: string): Row => ({ what, ours, floor: "-", ratio: "-", aim });
  if (typeof found === "string") return [row("the web app in a browser", `skipped: ${found}`, "-")];
  const { screens, longLog, streaming, hour, output, printing, diff } = found;
  return [
    ...screens.flatMap(({ screen, scripts, paintMs, usableMs, shift }) => [
      row(`${screen}: scripts on an empty cache, gzip`, `${(scripts / 1_000).toFixed(1)} kB`, "<= 150 kB"),
      row(
        `${screen}: first paint / usable, 4x CPU throttle, slow 4G, p50`,
        `${ms(paintMs)} / ${ms(usableMs)}`,
        "<= 1.5 s",
      ),
      row(`${screen}: layout shift`, shift.toFixed(3), "0"),
    ]),
    row(`a log of ${n(longLog.events)} events opened, p50`, ms(longLog.ms), "< 1 s"),
    row(
      `longest task of the page while ${n(streaming.events)} events stream / layout shift`,
      `${ms(streaming.longestMs)} / ${streaming.shift.toFixed(3)}`,
      "<= 50 ms / 0",
    ),
    row(
      `heap of the page after a quarter, the half and all of ${n(hour.events)} streamed events, an hour of five a second`,
      hour.heaps.map((bytes) => `${(bytes / 1e6).toFixed(1)} MB`).join(" / "),
      "level",
    ),
    row(`a tool output of ${n(output.bytes)} bytes shown / longest task`, pair(output), "-"),
    row(
      `longest task of the page while a command prints ${n(printing.bytes)} bytes`,
      ms(printing.longestMs),
      "<= 50 ms",
    ),
    row(`a change of ${n(diff.files)} files opened / longest task`, pair(diff), "-"),
  ];
}

const pair = (figure: { readonly ms: number; readonly longestMs: number }): string =>
  `${ms(figure.ms)} / ${ms(figure.longestMs)}`;

/** @param found the figures, or why there are none. */
function toRows(found: Provision | string): Row[] {
  if (typeof found === "string")
    return [{ what: "tasks in containers", ours: `skipped: ${found}`, floor: "-", ratio: "-", aim: "-" }];
  const times = (a: number, b: number): string => `${(a / b).toFixed(2)}x`;
  return [
    {
      what: `cold: submit to first step, p50 of ${found.rounds}`,
      ours: ms(found.cold),
      floor: `${ms(found.byHand)} = docker run + git clone`,
      ratio: times(found.cold, found.byHand),
      aim: "<= 1.5x",
    },
    {
      what: "the same beside the bare engine",
      ours: ms(found.cold),
      floor: `${ms(found.runAndClone)} = same container, clone from a folder (${ms(found.run)} = doing nothing)`,
      ratio: times(found.cold, found.runAndClone),
      aim: "-",
    },
    {
      what: `warm: submit to first step, p50 of ${found.rounds}`,
      ours: ms(found.warm),
      floor: `${ms(found.cold)} = cold`,
      ratio: times(found.warm, found.cold),
      aim: "<= 0.35x",
    },
    {
      what: "20 tasks through 4 slots",
      ours: ms(found.crowd),
      floor: `${ms(found.alone * 5)} = 5 times one task alone`,
      ratio: times(found.crowd, found.alone * 5),
      aim: "-",
    },
    {
      what: "slot turnaround: end to the next one's first step",
      ours: ms(found.turnaround),
      floor: "-",
      ratio: "-",
      aim: "-",
    },
  ];
}

/** @param found the figures, or why there are none. */
function outputRows(found: OutputFigures | string): Row[] {
  const row = (what: string, ours: string, floor = "-"): Row => ({ what, ours, floor, ratio: "-", aim: "-" });
  const what = "live output: printed in a container to a person's client, p50 / p99";
  if (typeof found === "string") return [row(what, `skipped: ${found}`)];
  const { printed, seen, p50, p99, rare, pipeP99 } = found;
  const lines = `${n(seen)} of ${n(printed)} lines`;
  return [
    row(`${what}, 50 lines per second`, `${ms(p50)} / ${ms(p99)} (${lines})`, `${ms(pipeP99)} = over a pipe, p99`),
    row(`${what}, each line after a silence`, `${ms(rare.p50)} / ${ms(rare.p99)}`),
  ];
}

/** @param found the figures, or why there are none. */
function setupRows(found: SetupFigures | string): Row[] {
  const row = (what: string, ours: string, floor = "-", ratio = "-", aim = "-"): Row => ({
    what,
    ours,
    floor,
    ratio,
    aim,
  });
  if (typeof found === "string") return [row("setups in containers", `skipped: ${found}`)];
  const { packages, installMs, coldMs, coldFirstMs, containerMs, rounds, cachedMs, cachedFirstMs } = found;
  const install = `${ms(installMs)} = npm ci of ${n(packages)} packages`;
  return [
    row("setup, cold: with keeping it", ms(coldMs), install, `${(coldMs / installMs).toFixed(2)}x`),
    row(
      `setup, cached, p50 of ${rounds}: container with its disk, and setup`,
      ms(cachedMs),
      `${install}; ${ms(containerMs)} = a container`,
      pct(cachedMs / installMs),
      "<= 10 %",
    ),
    row(
      "submit to first step with a cached setup",
      ms(cachedFirstMs),
      `${ms(coldFirstMs)} = cold`,
      pct(cachedFirstMs / coldFirstMs),
    ),
  ];
}

type Figures = Readonly<{
  started: Boot;
  recorded: Rates;
  lived: Lifecycles;
  waited: Latencies;
  fanned: FanoutResult;
  recovered: Recovery;
}>;

function rows({ started, recorded, lived, waited, fanned, recovered }: Figures): Row[] {
  return [
    {
      what: "record/s (FULL, 100 tasks at once)",
      ours: n(recorded.ours),
      floor: `${n(recorded.floor)} bare rows`,
      ratio: pct(recorded.ours / recorded.floor),
      aim: ">= 60 %",
    },
    {
      what: `lifecycles/s (${lived.eventsPerTask.toFixed(1)} events each)`,
      ours: n(lived.perSecond),
      floor: `${n(recorded.ours / lived.eventsPerTask)} = record/s / events`,
      ratio: pct((lived.perSecond * lived.eventsPerTask) / recorded.ours),
      aim: ">= 2,500/s",
    },
    {
      what: "submit to first words of the worker p50 / p99",
      ours: `${ms(waited.p50)} / ${ms(waited.p99)}`,
      floor: `${ms(1_000 / (recorded.floor / 100))} = one bare transaction`,
      ratio: "-",
      aim: "-",
    },
    {
      what: "fan-out of one event to 2,000 sockets p50",
      ours: ms(fanned.ours.p50),
      floor: `${ms(fanned.floor.p50)} bare ws loop`,
      ratio: `${(fanned.ours.p50 / fanned.floor.p50).toFixed(2)}x`,
      aim: "-",
    },
    {
      what: "fan-out of one event to 2,000 sockets p99",
      ours: ms(fanned.ours.p99),
      floor: `${ms(fanned.floor.p99)} bare ws loop`,
      ratio: `${(fanned.ours.p99 / fanned.floor.p99).toFixed(2)}x`,
      aim: "<= 1.5x",
    },
    {
      what: "start with 10,000 open tasks to first claim",
      ours: ms(started.firstClaimMs),
      floor: "-",
      ratio: "-",
      aim: "< 2 s",
    },
    {
      what: "SIGKILL to next event of a running task",
      ours: ms(recovered.ms),
      floor: `${ms(recovered.startMs)} = start to listening`,
      ratio: `${(recovered.ms / recovered.startMs).toFixed(2)}x`,
      aim: "< 1.5 s",
    },
    {
      what: "resident memory idle / per 1,000 open tasks",
      ours: `${started.idleMb.toFixed(0)} MB / ${started.perThousandMb.toFixed(1)} MB`,
      floor: "-",
      ratio: "-",
      aim: "-",
    },
  ];
}

const print = (text: string): void => void process.stdout.write(`${text}\n`);

if (only === "soak") {
  const [tasks = SOAK.tasks, every = SOAK.every] = process.argv.slice(3).map(Number);
  process.exitCode = (await soak(tasks, every, print)) ? 0 : 1;
} else print(table(await measure()));
