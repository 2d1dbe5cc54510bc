/** The settings of quotas (src/core/quotas.ts), as src/app/options.ts lists them. */
export const QUOTA_OPTIONS = {
  userMonthUsd: {
    env: "SLIPWAY_USER_MONTH_USD",
    flag: "user-month-usd",
    argument: "amount",
    help: "model budget of one user per month (no limit)",
  },
  userTasksPerMinute: {
    env: "SLIPWAY_USER_TASKS_PER_MINUTE",
    flag: "user-tasks-per-minute",
    argument: "number",
    help: "tasks that one user may begin in a minute, 0 = no limit (60)",
  },
  userTasksPerDay: {
    env: "SLIPWAY_USER_TASKS_PER_DAY",
    flag: "user-tasks-per-day",
    argument: "number",
    help: "tasks that one user may begin in 24 hours, 0 = no limit (1000)",
  },
  userOpenTasks: {
    env: "SLIPWAY_USER_OPEN_TASKS",
    flag: "user-open-tasks",
    argument: "number",
    help: "tasks that one user may have open at once, 0 = no limit (200)",
  },
  userSearchesPerMinute: {
    env: "SLIPWAY_USER_SEARCHES_PER_MINUTE",
    flag: "user-searches-per-minute",
    argument: "number",
    help: "searches that one user may make in a minute, 0 = no limit (120)",
  },
  userStorageMb: {
    env: "SLIPWAY_USER_STORAGE_MB",
    flag: "user-storage-mb",
    argument: "megabytes",
    help: "what repositories, workspaces and other files of one user may take, 0 = no limit (20480)",
  },
} as const;
