/**
 * Logs a phone in: shows a one-time link as a QR, then who opened it, and asks. Nothing is given to
 * a phone before the person has approved it here.
 */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { encode } from "uqr";
import type { DeviceOffer, DeviceOfferState } from "../../../../src/client/types.ts";
import { ResultLine, useAct } from "../../components/act.tsx";
import { Icon } from "../../components/icon.tsx";
import { Sheet } from "../../components/sheet.tsx";
import { client, problemText } from "../../lib/client.ts";
import { Approval } from "../log-in/approval.tsx";

const ASK_MS = 2_000;

export function DeviceLink() {
  const queries = useQueryClient();
  const [offer, setOffer] = useState<DeviceOffer | null>(null);
  const { run, said, isBusy } = useAct();
  const begin = async (): Promise<void> => {
    queries.removeQueries({ queryKey: ["device-offer"] });
    setOffer(await client.people.offerDevice());
  };
  return (
    <section aria-label="Your phone">
      <p className="talk">
        <button className="btn line wide" type="button" disabled={isBusy} onClick={() => void run(begin)}>
          <Icon name="qr" />
          Log in on your phone
        </button>
      </p>
      <ResultLine said={said} />
      <Sheet title="Log in on your phone" isOpen={offer !== null} onClose={() => setOffer(null)}>
        {offer !== null && <Pairing offer={offer} />}
      </Sheet>
    </section>
  );
}

function Pairing({ offer }: { offer: DeviceOffer }) {
  const queries = useQueryClient();
  const [isDecided, setDecided] = useState(false);
  const [ended, setEnded] = useState<string | null>(null);
  // Closed: a link that nobody watches any more is worth nothing.
  useEffect(() => () => void client.people.withdrawDeviceOffer().catch(() => undefined), []);
  const found = useQuery({
    queryKey: ["device-offer"],
    queryFn: ({ signal }) => client.people.deviceOffer({ signal }),
    refetchInterval: ASK_MS,
    enabled: !isDecided,
  });
  const decide = async (userCode: string, allow: boolean): Promise<void> => {
    // The decision ends the offer: a later answer to what was asked before would say so first.
    setDecided(true);
    await queries.cancelQueries({ queryKey: ["device-offer"] });
    try {
      await client.people.decideDevice(userCode, allow);
      setEnded(allow ? "Approved. The phone is logged in within seconds." : "Refused. Nothing was logged in.");
      await queries.invalidateQueries({ queryKey: ["sessions"] });
    } catch (thrown) {
      setEnded(problemText(thrown));
    }
  };
  const text = ended ?? (found.error === null ? null : problemText(found.error));
  if (text !== null)
    return (
      <p className="banner" role="status">
        <span className="grow">{text}</span>
      </p>
    );
  if (found.data?.state === "asked") return <Decision asked={found.data} onDecide={decide} />;
  return (
    <>
      <p className="read">
        Scan this with your phone. It is good for {Math.round(offer.expiresIn / 60)} minutes and once.
      </p>
      <QrCode text={offer.url} />
      <p className="note">
        Without a camera, open <code>{offer.url}</code>
      </p>
    </>
  );
}

interface DecisionProps {
  readonly asked: Extract<DeviceOfferState, { readonly state: "asked" }>;
  readonly onDecide: (userCode: string, allow: boolean) => Promise<void>;
}

function Decision({ asked: { userCode, device, address }, onDecide }: DecisionProps) {
  const [isBusy, setBusy] = useState(false);
  const decide = (allow: boolean): void => {
    setBusy(true);
    void onDecide(userCode, allow);
  };
  return (
    <>
      <p className="read">
        <b>{device}</b> at {address} asks to be logged in as you. It shows the code <code>{userCode}</code>.
      </p>
      <Approval
        isBusy={isBusy}
        onDecide={decide}
        note="Approve only when your phone shows this code. Somebody else may have scanned it."
      />
    </>
  );
}

function QrCode({ text }: { text: string }) {
  const { data, size } = encode(text, { border: 3 });
  const squares = data.flatMap((row, y) => row.flatMap((isInk, x) => (isInk ? [`M${x} ${y}h1v1h-1z`] : [])));
  return (
    <svg
      className="qr"
      viewBox={`0 0 ${size} ${size}`}
      role="img"
      aria-label="QR code of the link"
      shapeRendering="crispEdges"
    >
      <rect className="paper" width={size} height={size} />
      <path className="ink" d={squares.join("")} />
    </svg>
  );
}
