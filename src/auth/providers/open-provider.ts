import type { Provider } from "./provider.ts";
import type { ProviderSettings } from "./settings.ts";

/** An installation without providers does not load their client. @param now epoch ms. */
export async function openProvider(settings: ProviderSettings, now: () => number): Promise<Provider> {
  if (settings.kind === "github") return (await import("./github.ts")).openGithubProvider(settings, now);
  return (await import("./oidc.ts")).openOidcProvider(settings, now);
}
