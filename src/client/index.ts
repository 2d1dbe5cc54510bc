/** The SDK: what `import ... from "slipway"` gives. */
export { SlipwayClient, type ClientOptions } from "./client.ts";
export { SlipwayProblem } from "./problem.ts";
export type { SocketLike, WebSocketConstructor } from "./stream.ts";
export type { Fetch, TokenProvider } from "./transport.ts";
export type {
  Account,
  Artifact,
  Attempt,
  CallOptions,
  GitCredential,
  KeyedCallOptions,
  Leftovers,
  ListQuery,
  LoginAnswer,
  Machine,
  Me,
  Message,
  MessageAnswer,
  NewCredential,
  NewUser,
  Page,
  PersonalToken,
  PullRequestView,
  Session,
  SessionStore,
  TaskDiff,
  TaskListQuery,
  Ticket,
  ToolCall,
} from "./types.ts";
export type { ConnectionState, WatchOptions, WatchTasksOptions, WatchTiming } from "./watch.ts";
export type {
  AnswerRequest,
  MessageRequest,
  Overview,
  RetryRequest,
  SubmitRequest,
  WireTask,
} from "../core/protocol/rest.ts";
export type { WireEvent, WireEventOf } from "../core/protocol/events.ts";
export type { TaskState } from "../core/task.ts";
export type {
  CheckProblem,
  CheckRequest,
  RecentRepositoryRow,
  RepositoryCheck,
} from "../core/protocol/repositories.ts";
