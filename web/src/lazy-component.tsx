/** Parts of the app that are loaded when they are needed. A request that fails is made again. */
import { Component, lazy, useState, type ComponentType, type ReactNode } from "react";
import { problemText } from "./lib/client.ts";

const WAITS_MS = [500, 1_500, 4_000];

/** @param get `import()`s it. A browser asks again for a module that it could not load. */
export async function importWithRetry<T>(get: () => Promise<T>): Promise<T> {
  for (const wait of WAITS_MS) {
    try {
      return await get();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
  return get().catch((cause: unknown) => {
    throw new Error("A part of the app could not be loaded. Drafts are kept.", { cause });
  });
}

type Otherwise<P> = (error: unknown) => ComponentType<P>;

/** As `lazy`, but what cannot be loaded has something in its place. */
const toLazy = <P,>(get: () => Promise<ComponentType<P>>, otherwise: Otherwise<P>) =>
  lazy(async (): Promise<{ default: ComponentType<P> }> => ({ default: await get().catch(otherwise) }));

const sayFailure = (error: unknown) => () => <Failed error={error} />;

/**
 * The screen goes on without a part that cannot be loaded. @param otherwise absent = what says so.
 */
export const lazyComponent = <P,>(get: () => Promise<ComponentType<P>>, otherwise?: ComponentType<P>) =>
  toLazy(
    () => importWithRetry(get),
    (error) => otherwise ?? sayFailure(error),
  );

export interface Screen<P> {
  (props: P): ReactNode;
  /** Idempotent; after a failure it loads again. */
  load(): Promise<unknown>;
}

/** A component that can be loaded before it is shown, and then is drawn at once. */
export function lazyScreen<P extends object>(get: () => Promise<ComponentType<P>>): Screen<P> {
  let loaded: ComponentType<P> | null = null;
  let loading: Promise<ComponentType<P>> | null = null;
  let failure: { readonly error: unknown } | null = null;
  const load = (): Promise<ComponentType<P>> => {
    if (failure !== null) {
      failure = null;
      Lazy = createLazy();
    }
    loading ??= importWithRetry(get).then(
      (component) => (loaded = component),
      (error: unknown) => {
        loading = null;
        failure = { error };
        throw error;
      },
    );
    return loading;
  };
  // What could not be loaded a moment ago is not asked for again before that is said.
  const createLazy = () => toLazy(() => (failure === null ? load() : Promise.reject(failure.error)), sayFailure);
  let Lazy = createLazy();
  function Shown(props: P) {
    const [At] = useState<ComponentType<P>>(() => loaded ?? Lazy);
    return <At {...props} />;
  }
  return Object.assign(Shown, { load });
}

interface BoundaryProps {
  /** Another one tries again. */
  readonly at: string;
  readonly children: ReactNode;
}

interface BoundaryState {
  readonly at: string;
  readonly error: unknown;
}

/** Says why a screen cannot be drawn, in its place. */
export class FailureBoundary extends Component<BoundaryProps, BoundaryState> {
  static getDerivedStateFromError = (error: unknown): Partial<BoundaryState> => ({ error });

  static getDerivedStateFromProps = ({ at }: BoundaryProps, state: BoundaryState): BoundaryState | null =>
    at === state.at ? null : { at, error: null };

  override state: BoundaryState = { at: this.props.at, error: null };

  override render(): ReactNode {
    const { error } = this.state;
    return error === null ? this.props.children : <Failed error={error} />;
  }
}

/** In the place of what cannot be shown. */
export function Failed({ error }: { error: unknown }) {
  return (
    <div className="banner st-failed" role="alert">
      <span className="grow">{problemText(error)}</span>
      <button className="btn" type="button" onClick={() => location.reload()}>
        Reload
      </button>
    </div>
  );
}
