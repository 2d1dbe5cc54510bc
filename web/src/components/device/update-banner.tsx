/** Offers a new version of the app that is loaded already. */
import { takeNewVersion, waitingVersion } from "../../lib/device/app-update.ts";
import { useStore } from "../../lib/store.ts";
import { Icon } from "../icon.tsx";

export function UpdateBanner() {
  const waiting = useStore(waitingVersion);
  if (waiting === null) return null;
  return (
    <div className="banner over-page st-running" role="status">
      <Icon name="sync" />
      <span className="grow">
        <b>A new version is here.</b> Drafts are kept.
      </span>
      <button className="btn" type="button" onClick={takeNewVersion}>
        Reload
      </button>
    </div>
  );
}
