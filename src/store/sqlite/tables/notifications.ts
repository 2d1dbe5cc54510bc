/** Devices and notifications in SQL. Writes share the group commit of tasks. */
import type { Connection } from "../driver.ts";
import {
  KEPT_PER_DEVICE,
  type DeviceVia,
  type Notification,
  type NotificationEnd,
  type NotificationKind,
  type Notifications,
  type PushDevice,
} from "../../../core/ports/notifications.ts";
import { parseOr } from "../../shared/unreadable.ts";
import type { GroupCommit } from "../writer/group-commit.ts";
import type { NotificationWrites } from "../writer/messages.ts";

interface DeviceRow {
  id: string;
  user_id: string;
  via: DeviceVia;
  session_id: string | null;
  endpoint: string;
  sealed: string | null;
  p256dh: string;
  auth: string;
  label: string;
  kinds: string;
  created_at: number;
  seen_at: number;
}

interface Row {
  id: string;
  device_id: string;
  user_id: string;
  task_id: string;
  subject: string;
  seq: number;
  kind: NotificationKind;
  title: string;
  due_at: number;
  accepted_at: number | null;
  shown_at: number | null;
  opened_at: number | null;
  acted_at: number | null;
  ended: NotificationEnd | null;
  problem: string | null;
  tries: number;
  next_at: number | null;
  passed_at: number | null;
}

const toDevice = (row: DeviceRow): PushDevice => ({
  id: row.id,
  userId: row.user_id,
  via: row.via,
  sessionId: row.session_id,
  endpoint: row.endpoint,
  sealed: row.sealed,
  p256dh: row.p256dh,
  auth: row.auth,
  label: row.label,
  kinds: parseOr<NotificationKind[]>(row.kinds, []),
  createdAt: row.created_at,
  seenAt: row.seen_at,
});

const toNotification = (row: Row): Notification => ({
  id: row.id,
  deviceId: row.device_id,
  userId: row.user_id,
  taskId: row.task_id,
  subject: row.subject,
  seq: row.seq,
  kind: row.kind,
  title: row.title,
  dueAt: row.due_at,
  acceptedAt: row.accepted_at,
  shownAt: row.shown_at,
  openedAt: row.opened_at,
  actedAt: row.acted_at,
  ended: row.ended,
  problem: row.problem,
  tries: row.tries,
  nextAt: row.next_at,
  passedAt: row.passed_at,
});

export function notificationWrites(db: Connection): NotificationWrites {
  const replaced = db.prepare("DELETE FROM push_devices WHERE endpoint = ? AND id <> ?");
  const putDevice = db.prepare(
    `INSERT INTO push_devices (id, user_id, via, session_id, endpoint, sealed, p256dh, auth, label, kinds, created_at,
       seen_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, via = excluded.via,
       session_id = excluded.session_id, endpoint = excluded.endpoint, sealed = excluded.sealed, p256dh = excluded.p256dh, auth = excluded.auth, label = excluded.label,
       kinds = excluded.kinds, created_at = excluded.created_at, seen_at = excluded.seen_at`,
  );
  const deleteDevice = db.prepare("DELETE FROM push_devices WHERE id = ? AND user_id = ?");
  const add = db.prepare(
    `INSERT OR IGNORE INTO notifications (id, device_id, user_id, task_id, subject, seq, kind, title, due_at,
       accepted_at, shown_at, opened_at, acted_at, ended, problem, tries, next_at, passed_at)
     SELECT ?, id, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM push_devices WHERE id = ?`,
  );
  const prune = db.prepare(
    `DELETE FROM notifications WHERE next_at IS NULL AND id IN
       (SELECT id FROM notifications WHERE device_id = ? ORDER BY due_at DESC, id DESC LIMIT -1 OFFSET ${KEPT_PER_DEVICE})`,
  );
  const find = db.prepare<[string], Row>("SELECT * FROM notifications WHERE id = ?");
  const progress = db.prepare(
    `UPDATE notifications SET accepted_at = ?, shown_at = ?, ended = ?, problem = ?, tries = ?, next_at = ?, passed_at = ? WHERE id = ?`,
  );
  const reach = db.prepare(
    `UPDATE notifications SET next_at = CASE WHEN accepted_at IS NULL THEN next_at END,
       shown_at = coalesce(shown_at, @at),
       opened_at = coalesce(opened_at, CASE WHEN @rung IN ('opened', 'acted') THEN @at END),
       acted_at = coalesce(acted_at, CASE WHEN @rung = 'acted' THEN @at END)
     WHERE id = @id`,
  );
  return {
    putDevice(device) {
      const { id, userId, via, sessionId, endpoint, sealed, p256dh, auth, label, createdAt, seenAt } = device;
      replaced.run(endpoint, id);
      const what = [p256dh, auth, label, JSON.stringify(device.kinds)];
      putDevice.run(id, userId, via, sessionId, endpoint, sealed, ...what, createdAt, seenAt);
    },
    deleteDevice: (userId, id) => deleteDevice.run(id, userId).changes > 0,
    addNotification(row) {
      const about = [row.id, row.userId, row.taskId, row.subject, row.seq, row.kind, row.title];
      const times = [row.dueAt, row.acceptedAt, row.shownAt, row.openedAt, row.actedAt];
      const rest = [row.ended, row.problem, row.tries, row.nextAt, row.passedAt, row.deviceId];
      const isNew = add.run(...about, ...times, ...rest).changes > 0;
      if (isNew) prune.run(row.deviceId);
      return isNew;
    },
    progressNotification(id, change) {
      const row = find.get(id);
      if (row === undefined) return;
      const { acceptedAt, shownAt, ended, problem, tries, nextAt, passedAt } = { ...toNotification(row), ...change };
      progress.run(acceptedAt, shownAt, ended, problem, tries, nextAt, passedAt, id);
    },
    reachRung: (id, rung, at) => reach.run({ id, rung, at }).changes > 0,
  };
}

export function sqliteNotifications(db: Connection, groupCommit: GroupCommit): Notifications {
  const devices = db.prepare<[string], DeviceRow>(
    "SELECT * FROM push_devices WHERE user_id = ? ORDER BY via <> 'web_push', seen_at DESC, id DESC",
  );
  const device = db.prepare<[string], DeviceRow>("SELECT * FROM push_devices WHERE id = ?");
  const one = db.prepare<[string], Row>("SELECT * FROM notifications WHERE id = ?");
  const due = db.prepare<[number, number], Row>(
    "SELECT * FROM notifications WHERE next_at <= ? ORDER BY next_at, id LIMIT ?",
  );
  const next = db.prepare<[], { at: number | null }>(
    "SELECT min(next_at) AS at FROM notifications WHERE next_at IS NOT NULL",
  );
  const ofDevice = db.prepare<[string, number], Row>(
    "SELECT * FROM notifications WHERE device_id = ? ORDER BY due_at DESC, id DESC LIMIT ?",
  );
  const withSubject = db.prepare<[string, string], { device_id: string }>(
    "SELECT device_id FROM notifications WHERE task_id = ? AND subject = ? ORDER BY device_id",
  );
  return {
    putDevice: (given) => groupCommit.run("putDevice", given),
    deleteDevice: (userId, id) => groupCommit.run("deleteDevice", userId, id),
    devices: async (userId) => devices.all(userId).map(toDevice),
    device: async (id) => {
      const row = device.get(id);
      return row === undefined ? null : toDevice(row);
    },
    addNotification: (row) => groupCommit.run("addNotification", row),
    notification: async (id) => {
      const row = one.get(id);
      return row === undefined ? null : toNotification(row);
    },
    dueNotifications: async (now, limit) => due.all(now, limit).map(toNotification),
    nextNotificationAt: async () => next.get()?.at ?? null,
    notificationsOf: async (deviceId, limit) => ofDevice.all(deviceId, limit).map(toNotification),
    devicesWith: async (taskId, subject) => withSubject.all(taskId, subject).map((row) => row.device_id),
    progressNotification: (id, change) => groupCommit.run("progressNotification", id, change),
    reachRung: (id, rung, at) => groupCommit.run("reachRung", id, rung, at),
  };
}
