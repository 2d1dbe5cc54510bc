/**
 * What the server finds under the filter of the inbox, page by page, and without a filter the tasks
 * that are older than those of the list.
 */
import { useInfiniteQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import type { TaskListQuery } from "../../../../src/client/types.ts";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { impatientClient } from "../client.ts";
import { formatRepo } from "../format.ts";
import type { TaskFilter } from "./task-filter.ts";
import { getTask, type TaskListView } from "./task-list.ts";

/** Typing is over. Searches are counted by the server, so not each letter is one. */
const TYPED_MS = 300;
const PAGE = 50;

export interface ServerSearch {
  readonly tasks: readonly WireTask[];
  /** Asks for the next page; null = there is none. */
  readonly more: (() => void) | null;
  readonly isSearching: boolean;
  readonly hasFailed: boolean;
}

const isEmpty = (filter: TaskFilter): boolean => Object.keys(filter).length === 0;

/**
 * The screen's address names a repository, and the server takes the repository's address. A name
 * with no or several of these is searched as a text; the caller leaves out what does not match.
 */
function toQuery({ q, repo, needs, mine }: TaskFilter, addresses: readonly string[]): TaskListQuery {
  const [address, ...others] = addresses;
  const isOne = address !== undefined && others.length === 0;
  const text = q ?? (repo !== undefined && !isOne ? repo : undefined);
  return {
    limit: PAGE,
    ...(text === undefined ? {} : { q: text.slice(0, 200) }),
    ...(repo !== undefined && isOne ? { repository: address } : {}),
    ...(needs === true ? { needs: "me" as const } : {}),
    ...(mine === true ? { owner: "me" } : {}),
  };
}

/** The filter, delayed until typing pauses. */
function useTyped(filter: TaskFilter): TaskFilter {
  const key = JSON.stringify(filter);
  const [typed, setTyped] = useState(key);
  useEffect(() => {
    const timer = setTimeout(() => setTyped(key), TYPED_MS);
    return () => clearTimeout(timer);
  }, [key]);
  return JSON.parse(typed) as TaskFilter;
}

export function useServerSearch(given: TaskFilter, list: TaskListView): ServerSearch {
  const filter = useTyped(given);
  const isPlain = isEmpty(filter);
  const [wantsOlder, setWantsOlder] = useState(false);
  const named = list.tasks.filter(({ repo }) => filter.repo === undefined || formatRepo(repo) === filter.repo);
  const addresses = filter.repo === undefined ? [] : [...new Set(named.map(({ repo }) => repo.replace(/\.git$/, "")))];
  const query = toQuery(filter, addresses);
  const first = isPlain ? list.next : null;
  const search = useInfiniteQuery({
    queryKey: ["search", query, first],
    initialPageParam: first,
    queryFn: ({ pageParam, signal }) =>
      impatientClient.tasks({ ...query, ...(pageParam === null ? {} : { cursor: pageParam }) }, { signal }),
    getNextPageParam: ({ next }) => next,
    enabled: list.isLoaded && (!isPlain || (wantsOlder && first !== null)),
  });
  const found = search.data?.pages.flatMap(({ items }) => items) ?? [];
  const isAsked = search.data !== undefined;
  const next = (): void => {
    setWantsOlder(true);
    if (isAsked) void search.fetchNextPage();
  };
  const hasMore = isAsked ? search.hasNextPage : isPlain && first !== null;
  return {
    tasks: found.map((task) => getTask(task.id) ?? task),
    more: hasMore && !search.isFetching ? next : null,
    isSearching: search.isFetching,
    hasFailed: search.isError,
  };
}
