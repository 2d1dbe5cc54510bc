import { openGithubProvider } from "./github.ts";
import { openOidcProvider } from "./oidc.ts";
import type { Provider } from "./provider.ts";
import type { ProviderSettings } from "./settings.ts";

/** @param now epoch ms. */
export function openProvider(settings: ProviderSettings, now: () => number): Provider {
  return settings.kind === "github" ? openGithubProvider(settings) : openOidcProvider(settings, now);
}
