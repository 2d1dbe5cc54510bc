/** What tasks with egress `allowlist` may reach: a list for all, and more by repository. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { EgressChangeRequest, EgressListAnswer } from "../../../../src/core/protocol/rest.ts";
import { ResultLine } from "../../components/act.tsx";
import { Bar } from "../../components/bar.tsx";
import { SimpleForm } from "../../components/forms/simple-form.tsx";
import { Icon } from "../../components/icon.tsx";
import { PageHead } from "../../components/page-head.tsx";
import { client, problemText } from "../../lib/client.ts";
import { formatRepo, pluralize } from "../../lib/format.ts";

/** Of a host that is named without one. */
const HTTPS = 443;

export function Egress() {
  const [repo, setRepo] = useState<string | null>(null);
  return (
    <div className="app has-side">
      <Bar />
      <main className="page" id="main">
        <PageHead title="Egress lists" back="/console" />
        <div className="stack">
          <p className="read">
            Tasks whose egress is “listed hosts” reach these and nothing else. A repository may have more of its own.
          </p>
          <HostList repo={null} />
          <section className="card" aria-label="Of a repository">
            <SimpleForm
              fields={["Repository"]}
              placeholders={{ Repository: "https://github.com/owner/name" }}
              action="Show"
              onSubmit={async ({ Repository = "" }) => {
                const found = await client.egress({ repo: Repository.trim() });
                setRepo(found.repo);
              }}
            />
          </section>
          {repo !== null && <HostList key={repo} repo={repo} />}
        </div>
      </main>
    </div>
  );
}

/** @param repo null = the list of the installation. */
function HostList({ repo }: { repo: string | null }) {
  const queries = useQueryClient();
  const queryKey = ["egress", repo];
  const of = repo === null ? {} : { repo };
  const list = useQuery({ queryKey, queryFn: ({ signal }) => client.egress(of, { signal }) });
  const change = useMutation({
    mutationFn: (wanted: EgressChangeRequest) => client.changeEgress({ ...of, ...wanted }),
    onSuccess: (next: EgressListAnswer) => queries.setQueryData(queryKey, next),
  });
  const title = repo === null ? "For all tasks" : `More for ${formatRepo(repo)}`;
  const problem = list.error ?? (change.variables?.allow === undefined ? change.error : null);
  const { hosts = [], shipped = false } = list.data ?? {};
  return (
    <section aria-label={title}>
      <h2 className="over">
        {title} <span className="n">{pluralize(hosts.length, "host")}</span>
      </h2>
      {repo === null && shipped && <p className="note">As shipped: package registries.</p>}
      <ResultLine said={problem === null ? null : { text: problemText(problem), isBad: true }} />
      <ul className="rows set">
        {hosts.map((host) => (
          <HostRow
            key={host}
            host={host}
            isBusy={change.isPending}
            onRemove={() => change.mutate({ remove: [host] })}
          />
        ))}
      </ul>
      <div className="card">
        <SimpleForm
          fields={["Host to allow"]}
          placeholders={{ "Host to allow": "registry.example.com" }}
          action="Allow it"
          onSubmit={async ({ "Host to allow": host = "" }) => {
            const named = host.trim();
            await change.mutateAsync({ allow: [/:\d+$/.test(named) ? named : `${named}:${HTTPS}`] });
          }}
        />
        {!(shipped && repo === null) && hosts.length > 0 && (
          <div className="acts">
            <button
              className="btn quiet"
              type="button"
              disabled={change.isPending}
              onClick={() => change.mutate({ reset: true })}
            >
              {repo === null ? "Back to the shipped list" : "Remove all of them"}
            </button>
          </div>
        )}
      </div>
    </section>
  );
}

function HostRow({ host, isBusy, onRemove }: { host: string; isBusy: boolean; onRemove: () => void }) {
  return (
    <li>
      <Icon name="send" />
      <span>
        <b className="mono">{host}</b>
      </span>
      <button className="btn line" type="button" aria-label={`Remove ${host}`} disabled={isBusy} onClick={onRemove}>
        Remove
      </button>
    </li>
  );
}
