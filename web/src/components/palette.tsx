/**
 * Search and commands: one field, one list. The focus stays in the field; the arrows move what is
 * selected.
 */
import { useQuery } from "@tanstack/react-query";
import { inboxAddress, taskAddress } from "../navigation/addresses.ts";
import { navigate } from "../navigation/history.tsx";
import { useDeferredValue, useEffect, useMemo, useState } from "react";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { client } from "../lib/client.ts";
import { formatRepo } from "../lib/format.ts";
import { openByButton } from "../lib/keys.ts";
import { session } from "../lib/session.ts";
import { useStore } from "../lib/store.ts";
import { matches } from "../lib/tasks/task-filter.ts";
import { putTask, useTaskList } from "../lib/tasks/task-list.ts";
import { describeStep, getAppearance } from "../lib/tasks/task-view.ts";
import { writeTheme } from "../lib/theme.ts";
import { Icon } from "./icon.tsx";
import { Modal } from "./sheet.tsx";

interface Hit {
  readonly key: string;
  readonly icon: string;
  readonly tone: string;
  readonly title: string;
  readonly detail: string;
  readonly run: () => void;
}

interface HitGroup {
  readonly title: string;
  readonly hits: readonly Hit[];
}

const TASKS_SHOWN = 6;
const REPOS_SHOWN = 4;
/** Shorter texts are searched only in what is here. */
const SERVER_SEARCH = 3;

export function Palette({ onClose }: { onClose: () => void }) {
  const [q, setQ] = useState("");
  const [chosen, setChosen] = useState(0);
  const groups = useHits(q, onClose);
  const hits = groups.flatMap((group) => group.hits);
  const index = Math.min(chosen, Math.max(0, hits.length - 1));
  const selected = hits[index];
  useEffect(() => {
    document.getElementById(`hit-${index}`)?.scrollIntoView({ block: "nearest" });
  }, [index]);
  return (
    <Modal className="palette" label="Search and commands" isOpen onClose={onClose}>
      <div className="find">
        <Icon name="search" />
        <input
          type="text"
          role="combobox"
          aria-label="Search tasks, repositories and actions"
          aria-expanded="true"
          aria-controls="hits"
          aria-activedescendant={selected === undefined ? undefined : `hit-${index}`}
          autoComplete="off"
          spellCheck={false}
          autoFocus
          value={q}
          onChange={(event) => {
            setQ(event.target.value);
            setChosen(0);
          }}
          onKeyDown={(event) => {
            const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
            if (step === 0 && event.key !== "Enter") return;
            event.preventDefault();
            if (step !== 0) setChosen((index + step + hits.length) % Math.max(1, hits.length));
            else selected?.run();
          }}
        />
        <button className="iconbtn" type="button" aria-label="Close" onClick={onClose}>
          <Icon name="close" />
        </button>
      </div>
      <HitList groups={groups} index={index} onPick={setChosen} />
      <p className="foot">
        <span>
          <kbd className="kbd">↑</kbd> <kbd className="kbd">↓</kbd> choose
        </span>
        <span>
          <kbd className="kbd">Enter</kbd> open
        </span>
        <span>
          <kbd className="kbd">Esc</kbd> close
        </span>
      </p>
    </Modal>
  );
}

interface HitListProps {
  readonly groups: readonly HitGroup[];
  readonly index: number;
  readonly onPick: (index: number) => void;
}

function HitList({ groups, index, onPick }: HitListProps) {
  let next = 0;
  return (
    <div className="hits" id="hits" role="listbox" aria-label="Results">
      {groups.length === 0 && <p className="empty">Nothing matches.</p>}
      {groups.map(({ title, hits }) => (
        <div key={title} role="group" aria-label={title}>
          <div className="over" aria-hidden="true">
            {title} <span className="n">{hits.length}</span>
          </div>
          {hits.map((hit) => {
            const own = next++;
            return (
              <div
                key={hit.key}
                id={`hit-${own}`}
                className={`hit ${hit.tone}`}
                role="option"
                aria-selected={own === index}
                onPointerMove={() => onPick(own)}
                onClick={hit.run}
              >
                <Icon name={hit.icon} />
                <span>
                  <b>{hit.title}</b>
                  {hit.detail !== "" && <small>{hit.detail}</small>}
                </span>
              </div>
            );
          })}
        </div>
      ))}
    </div>
  );
}

function useHits(q: string, onClose: () => void): readonly HitGroup[] {
  const { tasks } = useTaskList();
  const state = useStore(session);
  const isOperator = state.kind === "active" && state.user.role !== "user";
  const searched = useDeferredValue(q.trim());
  const found = useQuery({
    queryKey: ["search", searched],
    queryFn: async ({ signal }) => {
      const { items } = await client.tasks({ q: searched, limit: TASKS_SHOWN }, { signal });
      for (const task of items) putTask(task);
      return items;
    },
    enabled: searched.length >= SERVER_SEARCH,
  });
  return useMemo(() => {
    const go = (to: string) => (): void => {
      onClose();
      void navigate(to);
    };
    const here = tasks.filter((task) => matches(task, q));
    const others = (found.data ?? []).filter((task) => here.every(({ id }) => id !== task.id));
    const groups = [
      { title: "Tasks", hits: [...here, ...others].slice(0, TASKS_SHOWN).map((task) => toTaskHit(task, go)) },
      { title: "Repositories", hits: toRepoHits(tasks, q, go) },
      { title: "Actions", hits: toActions(isOperator, go, onClose).filter((hit) => isNamed(hit.title, q)) },
    ];
    return groups.filter(({ hits }) => hits.length > 0);
  }, [tasks, found.data, q, isOperator, onClose]);
}

type Go = (to: string) => () => void;

const isNamed = (name: string, q: string): boolean => name.toLowerCase().includes(q.trim().toLowerCase());

function toTaskHit(task: WireTask, go: Go): Hit {
  const appearance = getAppearance(task);
  return {
    key: task.id,
    icon: `st-${appearance}`,
    tone: `st-${appearance}`,
    title: task.title,
    detail: `${describeStep(task).word} · ${formatRepo(task.repo)}`,
    run: go(taskAddress(task.id)),
  };
}

function toRepoHits(tasks: readonly WireTask[], q: string, go: Go): Hit[] {
  const names = [...new Set(tasks.map((task) => formatRepo(task.repo)))].filter((name) => isNamed(name, q));
  return names.slice(0, REPOS_SHOWN).map((name) => ({
    key: name,
    icon: "branch",
    tone: "",
    title: name,
    detail: "",
    run: go(inboxAddress({ repo: name })),
  }));
}

function toActions(isOperator: boolean, go: Go, onClose: () => void): Hit[] {
  const theme = (value: "" | "light" | "dark", title: string): Hit => ({
    key: title,
    icon: "pencil",
    tone: "",
    title,
    detail: "",
    run: () => {
      writeTheme(value);
      onClose();
    },
  });
  const screen = (icon: string, title: string, to: string): Hit => ({
    key: title,
    icon,
    tone: "",
    title,
    detail: "",
    run: go(to),
  });
  return [
    screen("plus", "New task", "/new"),
    screen("inbox", "Inbox", "/"),
    screen("comment", "What needs you", inboxAddress({ needs: true })),
    ...(isOperator ? [screen("console", "Console", "/console")] : []),
    screen("person", "You", "/you"),
    screen("bell", "Notifications", "/you/notifications"),
    { ...screen("info", "All keys", ""), run: () => openByButton("keys") },
    theme("light", "Appearance: light"),
    theme("dark", "Appearance: dark"),
    theme("", "Appearance: as the system"),
  ];
}
