/** The form of a retry; it is loaded when somebody opens it. */
import { useQuery } from "@tanstack/react-query";
import { taskAddress } from "../../../navigation/addresses.ts";
import { navigateFromHere } from "../../../navigation/history.tsx";
import { useState } from "react";
import type { WireTask } from "../../../../../src/core/protocol/rest.ts";
import { ResultLine, useAct } from "../../../components/act.tsx";
import { SelectField } from "../../../components/forms/fields.tsx";
import { client, configQuery } from "../../../lib/client.ts";
import { markDrafts, useDraft } from "../../../lib/drafts.ts";
import { listModels } from "../../../lib/tasks/models.ts";
import { putTask } from "../../../lib/tasks/task-list.ts";

type From = "push" | "checkpoint" | "start" | "edit" | "fork";
const PROMPT_LIMIT = 64 * 1024;

type Effort = WireTask["effort"];

const TEXTS: readonly (readonly [From, string, string])[] = [
  ["push", "Only the push", "The commit goes up as it is. No agent runs."],
  ["checkpoint", "From the checkpoint", "The agent continues where it stopped, with what it knows."],
  ["start", "From the start, the same prompt", "A fresh container and a fresh conversation."],
  ["edit", "From the start, another prompt", "A fresh container, with the options and the files of this task."],
  ["fork", "Fork: another way from here", "A new branch from this work. This branch and its thread stay as they are."],
];

/** What a retry may take other than the task had; empty = as before. */
interface Choice {
  readonly model: string;
  readonly effort: string;
}

const AS_BEFORE: Choice = { model: "", effort: "" };

function toAgent({ model, effort }: Choice): { model?: string; effort?: NonNullable<Effort> } {
  return {
    ...(model === "" ? {} : { model }),
    ...(effort === "" ? {} : { effort: effort as NonNullable<Effort> }),
  };
}

interface RetryFormProps {
  readonly task: WireTask;
  readonly isFork: boolean;
  readonly onClose: () => void;
}

export function RetryForm({ task, isFork, onClose }: RetryFormProps) {
  // Without saved work there is nothing to go on from.
  const hasWork = task.headSha !== null;
  const needs: Partial<Record<From, boolean>> = {
    push: task.state === "failed" && hasWork,
    checkpoint: hasWork,
    fork: hasWork,
  };
  const options = TEXTS.filter(([from]) => needs[from] ?? true);
  const [from, setFrom] = useState<From>(isFork ? "fork" : (options[0]?.[0] ?? "start"));
  const drafts = [`fork.${task.id}`, `edit.${task.id}`] as const;
  const [text, setText] = useDraft(drafts[0]);
  const [prompt, setPrompt] = useDraft(drafts[1], task.prompt);
  const [choice, setChoice] = useState(AS_BEFORE);
  const { begin, said, isBusy } = useBegin(task, onClose);
  const isEmpty = (from === "fork" ? text : prompt).trim() === "";
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        const isSame = markDrafts(...drafts);
        void begin(from, from === "fork" ? text : prompt, choice).then((hasBegun) => {
          if (!hasBegun || !isSame()) return;
          setText("");
          setPrompt("");
        });
      }}
    >
      {!isFork && (
        <fieldset className="options">
          <legend className="sr">From where</legend>
          {options.map(([value, title, hint]) => (
            <label key={value} className="option">
              <input type="radio" name="from" checked={from === value} onChange={() => setFrom(value)} />
              <b>{title}</b>
              <small>{hint}</small>
            </label>
          ))}
        </fieldset>
      )}
      {from === "fork" && <ForkFields task={task} isAlone={isFork} text={text} setText={setText} />}
      {from === "edit" && (
        <div className="field">
          <label className="label" htmlFor="edited-prompt">
            Prompt
          </label>
          <textarea
            className="input"
            id="edited-prompt"
            rows={6}
            maxLength={PROMPT_LIMIT}
            value={prompt}
            onChange={(event) => setPrompt(event.target.value)}
          />
        </div>
      )}
      {from !== "push" && <AgentFields task={task} choice={choice} onChange={setChoice} />}
      <ResultLine said={said} />
      <div className="acts">
        <button className="btn primary" type="submit" disabled={isBusy || isEmpty}>
          {from === "fork" ? "Fork and start" : "Start again"}
        </button>
      </div>
    </form>
  );
}

function useBegin(task: WireTask, onClose: () => void) {
  const { run, said, isBusy } = useAct();
  const make = async (from: From, text: string, choice: Choice): Promise<WireTask> => {
    if (from === "push") return client.retry(task.id, { from });
    if (from === "edit") return client.retry(task.id, { from: "start", prompt: text, ...toAgent(choice) });
    if (from !== "fork") return client.retry(task.id, { from, ...toAgent(choice) });
    const answer = await client.message(task.id, { text, fork: true, ...toAgent(choice) });
    if (answer.kind !== "follow_up") throw new Error("The task runs: it can be forked when it has ended.");
    return answer.task;
  };
  /** @returns whether there is a new task. */
  const begin = (from: From, text: string, choice: Choice): Promise<boolean> =>
    run(async () => {
      const goOn = navigateFromHere();
      const next = await make(from, text, choice);
      putTask(next);
      onClose();
      await goOn(taskAddress(next.id));
    });
  return { begin, said, isBusy };
}

interface ForkFieldsProps {
  readonly task: WireTask;
  /** True = no list of choices stands above and says what a fork is. */
  readonly isAlone: boolean;
  readonly text: string;
  readonly setText: (text: string) => void;
}

function ForkFields({ task, isAlone, text, setText }: ForkFieldsProps) {
  return (
    <>
      <div className="field">
        <label className="label" htmlFor="fork-prompt">
          What should go differently?
        </label>
        <textarea
          className="input low"
          id="fork-prompt"
          rows={3}
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
      </div>
      {isAlone && (
        <p className="hint">
          A new branch from <code>{task.headSha?.slice(0, 7)}</code>, with the conversation so far.{" "}
          <code>{task.branch}</code> and its thread stay as they are.
        </p>
      )}
    </>
  );
}

interface AgentFieldsProps {
  readonly task: WireTask;
  readonly choice: Choice;
  readonly onChange: (choice: Choice) => void;
}

/** Another model or effort, where the agent of the task has a model here. */
function AgentFields({ task, choice, onChange }: AgentFieldsProps) {
  const { data: config } = useQuery(configQuery);
  const models = config === undefined ? [] : listModels(config);
  if (config === undefined || models.length === 0 || task.agent === "scripted") return null;
  return (
    <div className="pair">
      <SelectField
        label="Model"
        value={choice.model}
        options={["", ...models]}
        names={{ "": `As before (${task.model ?? "default"})` }}
        onChange={(model) => onChange({ ...choice, model })}
      />
      <SelectField
        label="Effort"
        value={choice.effort}
        options={["", ...config.efforts]}
        names={{ "": `As before (${task.effort ?? "default"})` }}
        onChange={(effort) => onChange({ ...choice, effort })}
      />
    </div>
  );
}
