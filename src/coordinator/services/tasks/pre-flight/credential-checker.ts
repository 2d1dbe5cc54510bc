/**
 * Checks a git credential before it is saved, with a repository that the person names, else by the
 * API of the host's forge. Only an explicit refusal of the host refuses the credential. When the
 * host does not answer, or offers no known API, the credential is saved and reported as unchecked.
 */
import { SlipwayError } from "../../../../core/error.ts";
import { TaskFailure } from "../../../../core/failure.ts";
import type { Identity } from "../../../../core/ports/accounts.ts";
import type { Forge, GitAuth } from "../../../../core/ports/repositories.ts";
import type {
  CheckProblem,
  CredentialCheck,
  RepositoryCheck,
  TokenAnswer,
} from "../../../../core/protocol/repositories.ts";
import { parseRepositoryUrl } from "../../../../core/values/repository-url.ts";
import type { RepositoryChecker } from "./repository-checker.ts";

export interface CredentialRequest {
  /** In the form that repository addresses use. */
  readonly host: string;
  readonly auth: GitAuth;
  /** Address of a repository of the host; null = only the host is known. */
  readonly repo: string | null;
}

interface CredentialCheckerDeps {
  readonly repositories: Pick<RepositoryChecker, "check" | "admit">;
  readonly forges: readonly Forge[];
  readonly trustedHosts: readonly string[];
}

/** A forge that has not answered by then did not answer, ms. */
const ASK_MS = 20_000;
const NOTHING = { repo: null, canRead: null, canPush: null, account: null, scopes: null } as const;

/** Of a credential that was saved without a check. */
export const SKIPPED: CredentialCheck = {
  ...NOTHING,
  result: "skipped",
  message: "Not checked, as was asked.",
};

export class CredentialChecker {
  readonly #deps: CredentialCheckerDeps;

  constructor(deps: CredentialCheckerDeps) {
    this.#deps = deps;
  }

  /** @throws SlipwayError `credential_refused`, `invalid_repository`, `rate_limited`. */
  async check(person: Identity, { host, auth, repo }: CredentialRequest): Promise<CredentialCheck> {
    const { repositories, forges, trustedHosts } = this.#deps;
    if (repo !== null) {
      const address = parseRepositoryUrl(repo, { trustedHosts });
      if (address.host !== host)
        throw new SlipwayError(
          "invalid_repository",
          `The repository is at ${address.host} and the credential is for ${host}: name a repository of ${host}.`,
        );
      return judgeRepository(await repositories.check(person, { repo }, auth));
    }
    const forge = forges.find((candidate) => candidate.host === host);
    if (forge === undefined) {
      const message = `Not checked: Slipway cannot ask ${host} about a token alone. Name a repository of it to check the token there.`;
      return { ...NOTHING, result: "unknown", message };
    }
    return await repositories.admit(person.userId, () => askForge(forge, auth));
  }
}

function refuse(sentence: string, said: string | null = null): never {
  const words = said === null || said === "" ? "" : ` It said: "${said}".`;
  throw new SlipwayError(
    "credential_refused",
    `${sentence}${words} Nothing was saved: correct it, or save it without the check.`,
  );
}

function judgeRepository({ repo, host, name, canRead, canPush, problems }: RepositoryCheck): CredentialCheck {
  const known = { ...NOTHING, repo, canRead: canRead ? true : null, canPush };
  const find = (about: CheckProblem["about"]) => problems.find((problem) => problem.about === about);
  const read = find("read");
  if (read?.code === "repo_auth")
    refuse(`${host} does not accept this token for ${name}. Check the token and the user name.`, read.said);
  if (read?.code === "repo_not_found")
    refuse(`${host} has no repository ${name}, or this token may not see it. Check the address and the token.`);
  const push = find("push");
  if (push?.code === "push_auth")
    refuse(`This token can read ${name} and may not push to it. Give it write access (contents: write).`, push.said);
  if (push?.code === "push_rejected") refuse(push.message, push.said);
  if (!canRead) return { ...known, result: "unknown", message: `Not checked: ${read?.message ?? ""}`.trim() };
  if (canPush !== true) {
    const message = `It can read ${name}. ${host} did not say whether it may push.`;
    return { ...known, result: "unknown", message };
  }
  return { ...known, result: "passed", message: `It can read ${name} and push to it.` };
}

async function askForge(forge: Forge, auth: GitAuth): Promise<CredentialCheck> {
  const answer = await forge.readToken(auth, AbortSignal.timeout(ASK_MS)).catch(explainSilence);
  if (typeof answer === "string") {
    const message = `Not checked: ${answer} The next task shows whether the token works.`;
    return { ...NOTHING, result: "unknown", message };
  }
  return judgeToken(forge, answer);
}

function explainSilence(error: unknown): string {
  if (error instanceof TaskFailure) return error.message;
  if (error instanceof Error && error.name === "TimeoutError") return "The forge did not answer in time.";
  throw error;
}

function judgeToken({ name, host }: Forge, answer: TokenAnswer): CredentialCheck {
  if (answer.kind === "refused") refuse(`${name} (${host}) does not know this token. ${answer.said}`.trim());
  const more = "Name a repository to check that it can be pushed to.";
  if (answer.kind === "unreadable") {
    const message = `Not checked: ${name} does not tell about this kind of token. ${more}`;
    return { ...NOTHING, result: "unknown", message };
  }
  const { account, scopes, mayPush, needs } = answer;
  if (mayPush === false) refuse(`${name} knows this token, and it may not push anywhere. ${needs}`);
  const owner = account === null ? "knows it" : `knows it as ${account}`;
  const may = scopes === null ? "" : ` (${scopes.join(", ")})`;
  return {
    ...NOTHING,
    account,
    scopes: scopes?.slice() ?? null,
    result: "passed",
    message: `${name} ${owner}${may}. ${more}`,
  };
}
