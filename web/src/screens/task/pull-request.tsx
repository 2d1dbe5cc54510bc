/** The pull request of a task, in the list of facts of its result. */
import { useTaskView } from "./task-screen.tsx";

export function PullRequestFact() {
  const { pullRequest } = useTaskView().task;
  if (pullRequest === null) return null;
  return (
    <>
      <dt>Pull request</dt>
      <dd>
        <a className="link" href={pullRequest.url} target="_blank" rel="noopener noreferrer">
          #{pullRequest.number}
        </a>{" "}
        {pullRequest.state}
      </dd>
    </>
  );
}
