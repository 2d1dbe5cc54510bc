/** The log-in providers of the server, and explanations of refused log-ins. */
import { useQuery } from "@tanstack/react-query";
import type { LoginProblem } from "../../../../src/core/protocol/people.ts";
import { client } from "../../lib/client.ts";

const TEXTS: Readonly<Record<LoginProblem, string>> = {
  expired: "This log-in took too long, or was begun in another window. Start again here.",
  denied: "The provider says that you declined. Start again if you did not mean to.",
  provider_failed: "The provider did not answer as it should. Try again, or log in with your password.",
  not_proved: "The provider's answer did not prove who you are, so nobody was logged in. Start again here.",
  misconfigured:
    "The provider refuses this server. Ask its operator to check the client id, the secret and the redirect.",
  not_allowed: "You are not on the list of people who may log in here. Ask an admin of this server.",
  unverified_email: "The provider does not confirm your e-mail address. Verify it there, then log in again.",
  email_taken: "An account has this e-mail already. Log in with its password, then link the provider under You.",
  linked_elsewhere: "This identity is linked to another account. Unlink it there first.",
  disabled: "This account is disabled. Ask an admin of this server.",
  fresh_login_required: "For this you need to have logged in a moment ago. Log out, log in again, and repeat it.",
};

/**
 * Why the server led a log-in with a provider here. Null for no problem, and for a word that is
 * none.
 *
 * @param search of the address.
 */
export function describeLoginProblem(search: string): string | null {
  const problem = new URLSearchParams(search).get("problem");
  return problem !== null && Object.hasOwn(TEXTS, problem) ? TEXTS[problem as LoginProblem] : null;
}

const ways = {
  queryKey: ["providers"],
  queryFn: ({ signal }: { signal: AbortSignal }) => client.people.providers({ signal }),
  staleTime: Infinity,
};

export function useProviders() {
  return useQuery(ways).data?.items ?? [];
}

/** True where this browser can use passkeys of this server. */
export function useHasPasskeys(): boolean {
  const { data } = useQuery(ways);
  return data?.passkeys?.origin === location.origin && "PublicKeyCredential" in window;
}
