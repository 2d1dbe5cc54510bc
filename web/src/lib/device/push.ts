/**
 * Web Push in this browser. The server knows the browser by the endpoint of its subscription; the
 * id that it gave is kept, so that a new subscription continues the old record.
 */
import type { NewPushDevice, WirePush, WirePushDevice } from "../../../../src/core/protocol/push.ts";
import { client } from "../client.ts";
import { DEVICE, getPushSupport, noteAsked, read, unsubscribe, write } from "./push-support.ts";

type Kinds = NewPushDevice["kinds"];

export const ALL_KINDS: Kinds = ["needs_you", "budget", "done", "failed"];

export const isThisDevice = ({ id }: WirePushDevice): boolean => id === read(DEVICE);

/** For example "Chrome on Android"; the owner must tell the devices apart. */
function getLabel(): string {
  const { userAgent } = navigator;
  const has = (names: readonly (readonly [RegExp, string])[]): string =>
    names.find(([pattern]) => pattern.test(userAgent))?.[1] ?? "";
  const browser = has([
    [/Edg\//, "Edge"],
    [/Firefox\//, "Firefox"],
    [/Chrome\//, "Chrome"],
    [/Safari\//, "Safari"],
  ]);
  const system = has([
    [/iPhone/, "iPhone"],
    [/iPad/, "iPad"],
    [/Android/, "Android"],
    [/Mac OS/, "Mac"],
    [/Windows/, "Windows"],
    [/Linux/, "Linux"],
  ]);
  return system === "" ? browser || "A browser" : `${browser || "A browser"} on ${system}`;
}

/** Asks for the permission if it must. @throws Error with words for the person. */
export async function turnOn(kinds: Kinds = ALL_KINDS): Promise<WirePushDevice> {
  noteAsked();
  if ((await Notification.requestPermission()) !== "granted")
    throw new Error("The browser does not allow notifications. Allow them in its settings for this site.");
  const { publicKey } = await client.push.status();
  return subscribe(publicKey, kinds, false);
}

/** @param isDead the server lost the device: its subscription is of no use any more. */
async function subscribe(publicKey: string, kinds: Kinds, isDead: boolean): Promise<WirePushDevice> {
  const id = read(DEVICE);
  const { pushManager } = await navigator.serviceWorker.ready;
  const known = await pushManager.getSubscription();
  if (isDead) await known?.unsubscribe();
  const options = { userVisibleOnly: true, applicationServerKey: publicKey };
  const subscription = (isDead ? null : known) ?? (await pushManager.subscribe(options));
  const { endpoint = "", keys = {} } = subscription.toJSON();
  const device = await client.push.putDevice({
    ...(id === null ? {} : { id }),
    endpoint,
    keys: { p256dh: keys["p256dh"] ?? "", auth: keys["auth"] ?? "" },
    label: getLabel(),
    kinds,
  });
  if (id !== null && read(DEVICE) === null) {
    // It was turned off meanwhile, here or in another tab.
    await subscription.unsubscribe().catch(() => false);
    await client.push.deleteDevice(device.id).catch(() => undefined);
  } else write(DEVICE, device.id);
  return device;
}

/** Says that this device is in use, and subscribes again when its push service forgot it. */
export async function refreshPush(status: WirePush): Promise<boolean> {
  if (getPushSupport() !== "on") return false;
  const own = status.devices.find(isThisDevice);
  const kinds = own?.kinds ?? ALL_KINDS;
  await subscribe(status.publicKey, kinds, own === undefined);
  return own === undefined;
}

/** A start says that the device is in use; without a network the next one does. */
export async function startPush(): Promise<void> {
  if (getPushSupport() !== "on") return;
  try {
    await refreshPush(await client.push.status());
  } catch {
    // The page of notifications shows what is wrong.
  }
}

export async function setKinds(status: WirePush, kinds: Kinds): Promise<void> {
  await subscribe(status.publicKey, kinds, false);
}

/** Also without a network: the browser then has no subscription, and the server finds that out. */
export async function turnOff(): Promise<void> {
  const id = await unsubscribe();
  if (id !== null) await client.push.deleteDevice(id).catch(() => undefined);
}
