/** Changed files as a tree, which of them were seen, and which are alike. */
import { expect, it } from "vitest";
import { toMark } from "../../../web/src/screens/task/changes/files/mark.ts";
import {
  buildTree,
  groupAlike,
  listFiles,
  type FileChange,
  type Folder,
} from "../../../web/src/screens/task/changes/files/tree.ts";

const file = (path: string, more: Partial<FileChange> = {}): FileChange => ({
  path,
  oldPath: null,
  status: "modified",
  additions: 2,
  deletions: 1,
  binary: false,
  sizes: null,
  patch: `@@ -1 +1,2 @@\n-old\n+${path}\n+new\n`,
  ...more,
});

const outline = ({ name, count, additions, folders, files }: Folder): unknown => [
  `${name} ${count} +${additions}`,
  ...folders.map(outline),
  ...files.map(({ path }) => path),
];

it("folders that hold one folder alone are one with it, and each counts what is below it", () => {
  const tree = buildTree(
    ["src/a/x.ts", "src/a/b/y.ts", "src/a/b/z.ts", "docs/deep/er/w.md", "README.md"].map((path) => file(path)),
  );
  expect(outline(tree)).toEqual([
    " 5 +10",
    ["docs/deep/er 1 +2", "docs/deep/er/w.md"],
    ["src/a 3 +6", ["b 2 +4", "src/a/b/y.ts", "src/a/b/z.ts"], "src/a/x.ts"],
    "README.md",
  ]);
  expect(tree.folders[1]?.folders[0]?.path).toBe("src/a/b");
  expect(listFiles(tree).map(({ path }) => path)).toEqual([
    "docs/deep/er/w.md",
    "src/a/b/y.ts",
    "src/a/b/z.ts",
    "src/a/x.ts",
    "README.md",
  ]);
});

it("one folder at the top stays a folder, and names of objects' own parts are names", () => {
  const tree = buildTree([file("constructor/__proto__/a.ts"), file("constructor/__proto__/b.ts")]);
  expect(outline(tree)).toEqual([
    " 2 +4",
    ["constructor/__proto__ 2 +4", "constructor/__proto__/a.ts", "constructor/__proto__/b.ts"],
  ]);
});

it("M1: a mark is of the file as it was seen: other lines, or another commit of one without lines, make another", () => {
  const one = file("a.ts");
  expect(toMark({ ...one }, "2")).toBe(toMark(one, "1"));
  const others = [
    { ...one, patch: `${one.patch}+more\n` },
    { ...one, status: "renamed" as const, oldPath: "b.ts" },
    file("b.ts"),
  ];
  for (const other of others) expect(toMark(other, "1")).not.toBe(toMark(one, "1"));
  const large = { ...one, patch: null };
  expect(toMark(large, "1")).not.toBe(toMark(large, "2"));
  const marks = Array.from({ length: 20_000 }, (_, i) => toMark(file(`f${i}.ts`), "1"));
  expect(new Set(marks).size).toBe(20_000);
});

it("alike are binary files of one kind in one folder, moves into one folder, and equal edits", () => {
  const edit = (path: string, line: number): FileChange =>
    file(path, { patch: `@@ -${line} +${line} @@ f()\n-one\n+two\n` });
  const binary = { binary: true, patch: null, additions: 0, deletions: 0 };
  const moved = { status: "renamed" as const, additions: 0, deletions: 0, patch: "" };
  const files = [
    file("i/a.png", binary),
    file("i/b.png", binary),
    file("i/c.gif", binary),
    file("j/d.png", binary),
    edit("x/e.ts", 3),
    edit("y/f.ts", 90),
    file("k/g.ts", moved),
    file("k/h.ts", moved),
    file("large.ts", { patch: null }),
    file("larger.ts", { patch: null }),
  ];
  const alike = groupAlike(files);
  const groups = new Set([...alike.values()].map((group) => group.map(({ path }) => path).join(" ")));
  expect([...groups]).toEqual(["i/a.png i/b.png", "i/c.gif", "j/d.png", "x/e.ts y/f.ts", "k/g.ts k/h.ts"]);
  expect(alike.get("large.ts")).toBeUndefined();
});
