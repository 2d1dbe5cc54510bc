/** Passkeys in this browser. Loaded when one is made or used. */
import {
  browserSupportsWebAuthnAutofill,
  startAuthentication,
  startRegistration,
  WebAuthnAbortService,
  WebAuthnError,
  type PublicKeyCredentialCreationOptionsJSON,
  type PublicKeyCredentialRequestOptionsJSON,
} from "@simplewebauthn/browser";
import type { OwnPasskey, PasskeyStart } from "../../../../src/client/types.ts";
import { client, problemText } from "../client.ts";
import { enterWithTicket, post } from "../session.ts";

// The server made them for this call of the browser.
const readGet = ({ options }: PasskeyStart) => options as unknown as PublicKeyCredentialRequestOptionsJSON;
const readCreate = ({ options }: PasskeyStart) => options as unknown as PublicKeyCredentialCreationOptionsJSON;

const startPasskeyLogin = (): Promise<PasskeyStart> => post<PasskeyStart>("/v1/session/passkey/start", {});

/** Asks the person for a passkey and logs in with it. */
export async function enterWithPasskey(): Promise<void> {
  const started = await startPasskeyLogin();
  await enterWithTicket(started.ticket, await startAuthentication({ optionsJSON: readGet(started) }));
}

/**
 * Offers passkeys where the e-mail is typed, until one is chosen or another ceremony begins. A
 * challenge expires, so it is replaced in time. @returns whether the person is logged in.
 */
export async function offerPasskeys(signal: AbortSignal): Promise<boolean> {
  if (!(await browserSupportsWebAuthnAutofill())) return false;
  for (;;) {
    const started = await startPasskeyLogin();
    if (signal.aborted) return false;
    const state = { isOld: false };
    const stop = (): void => WebAuthnAbortService.cancelCeremony();
    const timer = setTimeout(() => {
      state.isOld = true;
      stop();
    }, started.expiresIn * 800);
    signal.addEventListener("abort", stop);
    try {
      const optionsJSON = readGet(started);
      const response = await startAuthentication({
        optionsJSON,
        useBrowserAutofill: true,
        verifyBrowserAutofillInput: false,
      });
      await enterWithTicket(started.ticket, response);
      return true;
    } catch (thrown) {
      if (!isCancelled(thrown)) throw thrown;
      if (!state.isOld) return false;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
    }
  }
}

export async function makePasskey(): Promise<OwnPasskey> {
  const started = await client.people.startPasskey();
  const response = await startRegistration({ optionsJSON: readCreate(started) });
  return client.people.createPasskey({ ticket: started.ticket, response: { ...response, clientExtensionResults: {} } });
}

/** True when the person, or another ceremony, ended it. */
export function isCancelled(thrown: unknown): boolean {
  const name = thrown instanceof WebAuthnError ? thrown.cause : thrown;
  return name instanceof Error && ["AbortError", "NotAllowedError"].includes(name.name);
}

/** The text of an error for people. */
export function passkeyProblem(thrown: unknown): string {
  if (isCancelled(thrown)) return "No passkey was used. Try again, or log in another way.";
  if (thrown instanceof WebAuthnError && thrown.code === "ERROR_AUTHENTICATOR_PREVIOUSLY_REGISTERED")
    return "This device has a passkey for you already.";
  if (thrown instanceof WebAuthnError) return `This device cannot do it: ${thrown.message}`;
  return problemText(thrown);
}
