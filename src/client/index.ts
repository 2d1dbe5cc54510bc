/** The SDK: what `import ... from "slipway"` gives. */
export { SlipwayClient } from "./client.ts";
export type { ClientOptions } from "./options.ts";
export { SlipwayProblem } from "./problem.ts";
export type { SocketLike, WebSocketConstructor } from "./stream.ts";
export type { Fetch, TokenProvider } from "./transport.ts";
export type {
  Account,
  Artifact,
  Attempt,
  Before,
  CallOptions,
  Conversation,
  ConversationQuery,
  CountsQuery,
  DiffFile,
  GitCredential,
  HistoryQuery,
  KeyedCallOptions,
  Leftovers,
  ListQuery,
  LogDigest,
  LoginAnswer,
  Machine,
  Me,
  Message,
  MessageAnswer,
  NewCredential,
  NewUser,
  Page,
  TaskPage,
  PersonalToken,
  PullRequestView,
  Session,
  SessionStore,
  TaskCounts,
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
export type { Capabilities, ServerConfig } from "../core/protocol/config.ts";
export type { TaskState } from "../core/task.ts";
export type {
  CheckProblem,
  CheckRequest,
  RecentRepositoryRow,
  RepositoryCheck,
} from "../core/protocol/repositories.ts";
export type { Attachment } from "../core/values/attachment.ts";
export type { CommitIdentity } from "../core/values/git-identity.ts";
