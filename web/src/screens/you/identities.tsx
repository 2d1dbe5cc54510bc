/** The providers that a person can log in with. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { ResultLine, useAct } from "../../components/act.tsx";
import { Icon } from "../../components/icon.tsx";
import { client } from "../../lib/client.ts";
import { formatAge } from "../../lib/format.ts";
import { useProviders } from "../log-in/login-problems.ts";
import { serverNow } from "../../lib/server-time.ts";

/** A git credential that was granted goes with its provider. */
const UNLINKED = new Set<unknown>(["identities", "credentials"]);

export function Identities() {
  const queries = useQueryClient();
  const providers = useProviders();
  const list = useQuery({
    queryKey: ["identities"],
    queryFn: ({ signal }) => client.people.identities({}, { signal }),
  });
  const { run, said, isBusy } = useAct();
  const items = list.data?.items ?? [];
  if (providers.length === 0 && items.length === 0 && said === null) return null;
  const refresh = (): Promise<void> =>
    queries.invalidateQueries({ predicate: ({ queryKey: [key] }) => UNLINKED.has(key) });
  return (
    <section aria-labelledby="identities-title">
      <h2 className="over" id="identities-title">
        Log in with <span className="n">{items.length}</span>
      </h2>
      <ul className="rows set">
        {items.map(({ id, provider, issuer, name, lastUsedAt }) => (
          <li key={id}>
            <Icon name="key" />
            <span>
              <b>{providers.find((one) => one.id === provider)?.name ?? issuer}</b>
              <small>{name + describeUse(lastUsedAt)}</small>
            </span>
            <button
              className="btn line"
              type="button"
              disabled={isBusy}
              onClick={() => void run(() => client.people.unlink(id), { after: refresh })}
            >
              Unlink
            </button>
          </li>
        ))}
      </ul>
      <ResultLine said={said} />
      {providers
        .filter((provider) => !items.some((item) => item.provider === provider.id))
        .map(({ id, name, startUrl }) => (
          <p className="talk" key={id}>
            <a className="btn line wide" href={`${startUrl}?link=true`}>
              <Icon name="plus" />
              Link {name}
            </a>
          </p>
        ))}
      {providers
        .filter(({ id, gitHost }) => gitHost !== null && items.some((item) => item.provider === id))
        .map(({ id, name, startUrl, gitHost }) => (
          <p className="talk" key={id}>
            <a className="btn line wide" href={`${startUrl}?link=true&git=true`}>
              <Icon name="key" />
              Use {name} for git at {gitHost}
            </a>
          </p>
        ))}
    </section>
  );
}

const describeUse = (at: string | null): string =>
  at === null ? "" : `, used ${formatAge(Date.parse(at), serverNow())} ago`;
