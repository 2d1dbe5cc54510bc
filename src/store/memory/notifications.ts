/** Devices and notifications in memory. */
import {
  KEPT_PER_DEVICE,
  RUNGS,
  type Notification,
  type NotificationProgress,
  type Notifications,
  type PushDevice,
  type Rung,
} from "../../core/ports/notifications.ts";

const isOther = ({ via }: PushDevice): number => Number(via !== "web_push");
const byUse = (a: PushDevice, b: PushDevice): number =>
  isOther(a) - isOther(b) || b.seenAt - a.seenAt || (a.id < b.id ? 1 : -1);
const byDue = (a: Notification, b: Notification): number => b.dueAt - a.dueAt || (a.id < b.id ? 1 : -1);

export class MemoryNotifications implements Notifications {
  readonly #devices = new Map<string, PushDevice>();
  readonly #rows = new Map<string, Notification>();

  async putDevice(device: PushDevice): Promise<void> {
    for (const other of this.#devices.values())
      if (other.endpoint === device.endpoint && other.id !== device.id) this.#drop(other.id);
    this.#devices.set(device.id, device);
  }

  async deleteDevice(userId: string, id: string): Promise<boolean> {
    if (this.#devices.get(id)?.userId !== userId) return false;
    this.#drop(id);
    return true;
  }

  #drop(id: string): void {
    this.#devices.delete(id);
    for (const row of this.#rows.values()) if (row.deviceId === id) this.#rows.delete(row.id);
  }

  dropPerson(userId: string): void {
    for (const device of this.#devices.values()) if (device.userId === userId) this.#drop(device.id);
  }

  dropTask(taskId: string): void {
    for (const row of this.#rows.values()) if (row.taskId === taskId) this.#rows.delete(row.id);
  }

  async devices(userId: string): Promise<PushDevice[]> {
    const own = [...this.#devices.values()].filter((device) => device.userId === userId);
    return own.toSorted(byUse);
  }

  async device(id: string): Promise<PushDevice | null> {
    return this.#devices.get(id) ?? null;
  }

  async addNotification(row: Notification): Promise<boolean> {
    const { deviceId, taskId, subject } = row;
    const isKnown = this.#of(deviceId).some((other) => other.taskId === taskId && other.subject === subject);
    if (isKnown || !this.#devices.has(deviceId)) return false;
    this.#rows.set(row.id, row);
    for (const old of this.#of(deviceId).slice(KEPT_PER_DEVICE)) if (old.nextAt === null) this.#rows.delete(old.id);
    return true;
  }

  async notification(id: string): Promise<Notification | null> {
    return this.#rows.get(id) ?? null;
  }

  async dueNotifications(now: number, limit: number): Promise<Notification[]> {
    const due = [...this.#rows.values()].filter(({ nextAt }) => nextAt !== null && nextAt <= now);
    return due.toSorted((a, b) => (a.nextAt ?? 0) - (b.nextAt ?? 0) || (a.id < b.id ? -1 : 1)).slice(0, limit);
  }

  async nextNotificationAt(): Promise<number | null> {
    const times = [...this.#rows.values()].flatMap(({ nextAt }) => nextAt ?? []);
    return times.length === 0 ? null : Math.min(...times);
  }

  async notificationsOf(deviceId: string, limit: number): Promise<Notification[]> {
    return this.#of(deviceId).slice(0, limit);
  }

  #of(deviceId: string): Notification[] {
    return [...this.#rows.values()].filter((row) => row.deviceId === deviceId).toSorted(byDue);
  }

  async devicesWith(taskId: string, subject: string): Promise<string[]> {
    const rows = [...this.#rows.values()].filter((row) => row.taskId === taskId && row.subject === subject);
    return rows.map(({ deviceId }) => deviceId).toSorted();
  }

  async progressNotification(id: string, change: NotificationProgress): Promise<void> {
    const row = this.#rows.get(id);
    if (row !== undefined) this.#rows.set(id, { ...row, ...change });
  }

  async reachRung(id: string, rung: Rung, at: number): Promise<boolean> {
    const row = this.#rows.get(id);
    if (row === undefined) return false;
    const reached = RUNGS.slice(0, RUNGS.indexOf(rung) + 1);
    this.#rows.set(id, {
      ...row,
      nextAt: row.acceptedAt === null ? row.nextAt : null,
      shownAt: row.shownAt ?? at,
      openedAt: row.openedAt ?? (reached.includes("opened") ? at : null),
      actedAt: row.actedAt ?? (reached.includes("acted") ? at : null),
    });
    return true;
  }
}
