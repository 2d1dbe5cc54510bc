/** Whether a task ends with a pull request. */
import type { Capabilities } from "../../../../src/core/protocol/config.ts";
import { Choice } from "./fields.tsx";

/** The server knows a forge of the repository's host; it judges the whole address at submission. */
export function hasForge({ pullRequests }: Capabilities, repo: string): boolean {
  return URL.canParse(repo) && pullRequests.forges.some(({ host }) => host === new URL(repo).host);
}

interface PullRequestChoiceProps {
  readonly value: string;
  readonly onChange: (value: string) => void;
}

export function PullRequestChoice({ value, onChange }: PullRequestChoiceProps) {
  return (
    <Choice
      label="Pull request"
      name="pullRequest"
      value={value}
      options={["none", "draft", "ready"]}
      onChange={onChange}
    />
  );
}
