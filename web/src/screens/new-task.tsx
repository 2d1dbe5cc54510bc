/**
 * A new task. The draft is kept on this device until it is in the outbox; the idempotency key
 * belongs to the draft, so that a repeated tap or a lost answer never makes a second task.
 */
import { Link } from "../navigation/link.tsx";
import { taskAddress } from "../navigation/addresses.ts";
import { navigateFromHere } from "../navigation/history.tsx";
import { useQuery } from "@tanstack/react-query";
import type { ServerConfig } from "../../../src/core/protocol/config.ts";
import type { SubmitRequest } from "../../../src/core/protocol/rest.ts";
import { useAct } from "../components/act.tsx";
import { AttachField } from "../components/forms/attach-field.tsx";
import { takesFiles } from "../components/forms/attachments.tsx";
import { useAttaching, type Attaching } from "../lib/attachments/attaching.ts";
import { Icon } from "../components/icon.tsx";
import { Choice, SelectField, TextField } from "../components/forms/fields.tsx";
import { PreFlight, useRepositoryCheck } from "../components/forms/pre-flight.tsx";
import { hasForge, PullRequestChoice } from "../components/forms/pull-request-choice.tsx";
import { client, configQuery } from "../lib/client.ts";
import { dispatch } from "../lib/device/outbox.ts";
import { newKey } from "../../../src/client/transport.ts";
import { noteSubmit } from "../lib/device/push-support.ts";
import { markDrafts, readDraft, useDraft, writeDraft } from "../lib/drafts.ts";
import { formatCount, formatRepo } from "../lib/format.ts";
import { listModels } from "../lib/tasks/models.ts";
import { parseOptions, toRequest, type Options } from "../lib/tasks/task-options.ts";
import { putTask, useTaskList } from "../lib/tasks/task-list.ts";

const PROMPT_LIMIT = 64 * 1024;
const RECENT = 6;
const DRAFT = ["new.repo", "new.prompt", "new.options", "new.files"] as const;

export function NewTask() {
  const [repo, setRepo] = useDraft("new.repo");
  const [prompt, setPrompt] = useDraft("new.prompt");
  const attaching = useAttaching("new.files");
  const config = useQuery(configQuery);
  const [options, setOptions] = useOptions(config.data);
  const check = useRepositoryCheck(repo, options.base ?? "");
  const { submit, problem, isBusy } = useSubmit(repo, prompt, options, config.data, attaching);

  return (
    <main className="page bare new-task" id="main">
      <header className="top sub">
        <Link className="iconbtn" to="/" aria-label="Close">
          <Icon name="close" />
        </Link>
        <h1>New task</h1>
        {repo + prompt !== "" && <span className="note">draft kept</span>}
      </header>
      <form
        className="form"
        aria-label="New task"
        {...takesFiles(attaching)}
        onSubmit={(event) => {
          event.preventDefault();
          if (!isBusy && !attaching.isBusy) void submit();
        }}
      >
        <RepositoryField repo={repo} setRepo={setRepo} />
        <PreFlight view={check} />
        <PromptField prompt={prompt} setPrompt={setPrompt} />
        {config.data?.attachments !== null && <AttachField attaching={attaching} />}
        {config.data !== undefined && (
          <OptionsFold
            config={config.data}
            repo={repo}
            branches={check.branches}
            options={options}
            setOptions={setOptions}
          />
        )}
        {problem !== null && <Problem text={problem} />}
        <div className="docked">
          <button className="btn primary wide" type="submit" disabled={isBusy || attaching.isBusy}>
            {isBusy ? "Sending…" : "Start task"}
          </button>
        </div>
      </form>
    </main>
  );
}

function PromptField({ prompt, setPrompt }: { prompt: string; setPrompt: (prompt: string) => void }) {
  return (
    <div className="field">
      <label className="label" htmlFor="prompt">
        Prompt{" "}
        <span className="opt num">
          {prompt === "" ? "" : `${formatCount(prompt.length)} of ${formatCount(PROMPT_LIMIT)}`}
        </span>
      </label>
      <textarea
        className="input"
        id="prompt"
        rows={7}
        required
        maxLength={PROMPT_LIMIT}
        value={prompt}
        onChange={(event) => setPrompt(event.target.value)}
      />
    </div>
  );
}

/** Sends the draft through the outbox, once. */
function useSubmit(
  repo: string,
  prompt: string,
  options: Options,
  config: ServerConfig | undefined,
  attaching: Attaching,
) {
  const { run, said, isBusy } = useAct();
  const submit = async (): Promise<void> => {
    // What was chosen for another host or another agent does not count.
    const isForge = config !== undefined && hasForge(config, repo);
    noteSubmit();
    const goOn = navigateFromHere();
    const canBe = config !== undefined && canReview(config, options.agent ?? config.agents[0] ?? "");
    const isReviewed = canBe && options.isReviewed === true;
    const wanted = { ...options, isReviewed, ...(isForge ? {} : { pullRequest: "" }) };
    const body = { ...toRequest(repo, prompt, wanted), ...attaching.request };
    const isSame = markDrafts(...DRAFT);
    const sent = await dispatch({ kind: "submit", body }, draftKey(body));
    writeDraft("new.key", "");
    // What was changed meanwhile is the draft of another task.
    if (isSame()) {
      for (const name of DRAFT) writeDraft(name, "");
      attaching.drop(attaching.items);
    }
    if (sent.kind !== "sent" || sent.receipt.kind !== "task") return await goOn("/", { replace: true });
    putTask(sent.receipt.task);
    await goOn(taskAddress(sent.receipt.task.id), { replace: true });
  };
  return { submit: () => run(submit), problem: said?.text ?? null, isBusy };
}

function Problem({ text }: { text: string }) {
  return (
    <p className="banner st-failed" role="alert">
      <Icon name="warn" />
      <span className="grow">{text}</span>
    </p>
  );
}

/** The built-in agent's change, where the server has a model for it. */
const canReview = (config: ServerConfig, agent: string): boolean =>
  config.reviewModel !== null && agent === "anthropic";

/**
 * One key per request, kept with the draft: the same request again, also after a reload, is the
 * same task. Another request under the key of an unfinished one would be refused.
 */
function draftKey(body: SubmitRequest): string {
  const text = JSON.stringify(body);
  const [key = "", ...known] = readDraft("new.key").split("\n");
  if (known.join("\n") === text) return key;
  const fresh = newKey();
  writeDraft("new.key", `${fresh}\n${text}`);
  return fresh;
}

/** Kept with the draft. What the server no longer offers is left out. */
function useOptions(config: ServerConfig | undefined) {
  const [kept, keep] = useDraft("new.options");
  const all = parseOptions(kept);
  const offered =
    config === undefined
      ? {}
      : { agent: config.agents, effort: config.efforts, egress: config.egress, model: listModels(config) };
  const options: Options = Object.fromEntries(
    Object.entries(all).filter(([name, value]) => {
      const known: readonly unknown[] | undefined = Object.hasOwn(offered, name)
        ? Reflect.get(offered, name)
        : undefined;
      return value !== "" && (known === undefined || known.includes(value));
    }),
  );
  return [options, (next: Options): void => keep(JSON.stringify(next))] as const;
}

function RepositoryField({ repo, setRepo }: { repo: string; setRepo: (repo: string) => void }) {
  const { tasks } = useTaskList();
  // Without a network: those of the tasks that this device keeps.
  const kept = [...new Set(tasks.map((task) => task.repo))].slice(0, RECENT);
  const used = useQuery({
    queryKey: ["recent-repositories"],
    queryFn: ({ signal }) => client.repositories.recent({ limit: RECENT }, { signal }),
  });
  const recent = used.data?.map((row) => row.repo) ?? kept;
  return (
    <>
      <div className="field">
        <label className="label" htmlFor="repo">
          Repository
        </label>
        <input
          className="input"
          id="repo"
          inputMode="url"
          autoComplete="off"
          autoCapitalize="off"
          spellCheck={false}
          required
          placeholder="https://github.com/owner/name.git"
          value={repo}
          onChange={(event) => setRepo(event.target.value)}
        />
      </div>
      {/* It has its place before it is known. */}
      <div className="chips recent" role="group" aria-label="Recent repositories">
        {recent.map((url) => (
          <button key={url} className="chip" type="button" aria-pressed={url === repo} onClick={() => setRepo(url)}>
            {formatRepo(url)}
          </button>
        ))}
        {recent.length === 0 && !used.isPending && <p className="note">The ones that you use are listed here.</p>}
      </div>
    </>
  );
}

interface OptionsFoldProps {
  readonly config: ServerConfig;
  readonly repo: string;
  readonly branches: readonly string[];
  readonly options: Options;
  readonly setOptions: (options: Options) => void;
}

function OptionsFold({ config, repo, branches, options, setOptions }: OptionsFoldProps) {
  const set = (change: Options): void => setOptions({ ...options, ...change });
  const agent = options.agent ?? config.agents[0] ?? "";
  const summary = [options.base ?? "default branch", agent, options.effort ?? "", options.usd ? `$${options.usd}` : ""];
  return (
    <details className="fold">
      <summary>
        <Icon name="chev-r" small className="turn" />
        <b>Options</b>
        <span>{summary.filter((part) => part !== "").join(", ")}</span>
      </summary>
      <div>
        <PlainOptions config={config} branches={branches} options={options} set={set} agent={agent} />
        {config.efforts.length > 0 && (
          <Choice
            label="Effort"
            name="effort"
            value={options.effort ?? ""}
            options={config.efforts}
            onChange={(effort) => set({ effort })}
          />
        )}
        <Choice
          label="What it may reach"
          name="egress"
          value={options.egress ?? config.egress[0] ?? ""}
          options={config.egress}
          names={{ none: "nothing", allowlist: "listed hosts", open: "everything" }}
          onChange={(egress) => set({ egress })}
        />
        {canReview(config, agent) && (
          <label className="tick">
            <input
              type="checkbox"
              checked={options.isReviewed ?? false}
              onChange={(event) => set({ isReviewed: event.target.checked })}
            />
            <span>Review: {config.reviewModel} reads the change before it is delivered, and may send it back once</span>
          </label>
        )}
        {hasForge(config, repo) && (
          <PullRequestChoice
            value={options.pullRequest ?? config.pullRequests.default}
            onChange={(pullRequest) => set({ pullRequest })}
          />
        )}
      </div>
    </details>
  );
}

interface PlainOptionsProps {
  readonly config: ServerConfig;
  readonly branches: readonly string[];
  readonly options: Options;
  readonly set: (change: Options) => void;
  readonly agent: string;
}

function PlainOptions({ config, branches, options, set, agent }: PlainOptionsProps) {
  const models = listModels(config);
  return (
    <div className="pair">
      <TextField
        label="Base branch"
        value={options.base ?? ""}
        placeholder={branches[0] ?? "default"}
        suggestions={branches}
        onChange={(base) => set({ base })}
      />
      <SelectField label="Agent" value={agent} options={config.agents} onChange={(next) => set({ agent: next })} />
      {models.length > 0 && (
        <SelectField
          label="Model"
          value={options.model ?? ""}
          options={["", ...models]}
          names={{ "": config.model === null ? "Default" : `Default (${config.model})` }}
          onChange={(model) => set({ model })}
        />
      )}
      <TextField
        label="Budget in dollars"
        value={options.usd ?? ""}
        inputMode="decimal"
        onChange={(usd) => set({ usd })}
      />
      <TextField
        label="Dollars per thread"
        placeholder={config.defaults.threadUsd === null ? "no limit" : String(config.defaults.threadUsd)}
        value={options.threadUsd ?? ""}
        inputMode="decimal"
        onChange={(threadUsd) => set({ threadUsd })}
      />
      <TextField
        label="Budget in minutes"
        placeholder={String(config.defaults.minutes)}
        value={options.minutes ?? ""}
        inputMode="numeric"
        onChange={(minutes) => set({ minutes })}
      />
      <TextField
        label="Container image"
        value={options.image ?? ""}
        placeholder="default"
        onChange={(image) => set({ image })}
      />
    </div>
  );
}
