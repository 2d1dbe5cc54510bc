/** The drawn chart against the chart that runs. */
import type { AnyStateNode } from "xstate";
import { expect, it } from "vitest";
import { taskMachine } from "../../../machines/task.ts";
import { TALL, WIDE, type ChartLayout } from "../../../web/src/components/lifecycle/chart-layout.ts";

const leaves = (node: AnyStateNode): AnyStateNode[] => {
  const children = Object.values(node.states);
  return children.length === 0 ? [node] : children.flatMap(leaves);
};
const nodes = (node: AnyStateNode): AnyStateNode[] =>
  Object.values(node.states).flatMap((child) => [child, ...nodes(child)]);

/** Every transition that changes the leaf, from the leaf to the leaf that it enters. */
function chartEdges(): Set<string> {
  const found = new Set<string>();
  for (const node of nodes(taskMachine.root))
    for (const transition of [...[...node.transitions.values()].flat(), ...(node.always ?? [])])
      for (const target of transition.target ?? [])
        for (const from of leaves(node).length === 0 ? [node] : leaves(node))
          for (const to of entered(target)) if (from !== to) found.add(`${from.key}>${to.key}`);
  return found;
}

/** The leaf that a transition to a state enters first. */
function entered(node: AnyStateNode): AnyStateNode[] {
  const initial = node.initial?.target?.[0];
  return initial === undefined ? [node] : entered(initial);
}

/** An edge at a region stands for the leaves of the region. */
function drawnEdges({ edges }: ChartLayout): Set<string> {
  const byName = new Map(nodes(taskMachine.root).map((node) => [node.key, node]));
  return new Set(
    edges.flatMap(([edge]) => {
      const [from = "", to = ""] = edge.split(">");
      const source = byName.get(from);
      const target = byName.get(to);
      if (source === undefined || target === undefined) throw new Error(`${edge} names a state that does not exist`);
      return leaves(source).flatMap((leaf) => entered(target).map((end) => `${leaf.key}>${end.key}`));
    }),
  );
}

it.each([
  ["tall", TALL],
  ["wide", WIDE],
])("[P3] the %s chart draws the states of the machine, no more and no fewer", (_name, layout) => {
  expect(layout.states.map(({ name }) => name).toSorted()).toEqual(
    leaves(taskMachine.root)
      .map(({ key }) => key)
      .toSorted(),
  );
});

it.each([
  ["tall", TALL],
  ["wide", WIDE],
])("[P3] the %s chart draws each transition of the machine, and none that it has not", (_name, layout) => {
  const drawn = drawnEdges(layout);
  const real = chartEdges();
  expect([...real].filter((edge) => !drawn.has(edge)).toSorted()).toEqual([]);
  expect([...drawn].filter((edge) => !real.has(edge)).toSorted()).toEqual([]);
});
