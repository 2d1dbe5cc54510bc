/** The settings of S3-compatible storage: names, flags, defaults and help. */
import type { Setting } from "./defaults.ts";

export const BUCKET_OPTIONS = {
  artifactsTo: {
    env: "SLIPWAY_ARTIFACTS_TO",
    flag: "artifacts-to",
    argument: "address",
    help: "where saved workspaces move to: s3://bucket/prefix (they stay in the data folder)",
  },
  s3Endpoint: {
    env: "SLIPWAY_S3_ENDPOINT",
    flag: "s3-endpoint",
    argument: "address",
    help: "S3-compatible storage for what goes to s3://bucket/prefix (AWS)",
    also: ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"],
  },
  s3Region: {
    env: "SLIPWAY_S3_REGION",
    flag: "s3-region",
    argument: "name",
    help: "its region (us-east-1)",
    also: ["AWS_REGION", "AWS_DEFAULT_REGION"],
  },
  s3PathStyle: {
    env: "SLIPWAY_S3_PATH_STYLE",
    flag: "s3-path-style",
    argument: "0|1",
    help: "1 = the bucket is part of the path, 0 = of the host name (1 with an endpoint, else 0)",
  },
  s3KeyId: {
    env: "SLIPWAY_S3_ACCESS_KEY_ID",
    flag: "s3-access-key-id",
    argument: "id",
    help: "id of the key to it",
    also: ["AWS_ACCESS_KEY_ID"],
  },
  s3Secret: {
    env: "SLIPWAY_S3_SECRET_ACCESS_KEY",
    flag: "s3-secret-access-key",
    argument: "key",
    help: "its secret; better in the environment, or in a file",
    secret: true,
    also: ["AWS_SECRET_ACCESS_KEY"],
  },
  s3SecretFile: {
    env: "SLIPWAY_S3_SECRET_ACCESS_KEY_FILE",
    flag: "s3-secret-access-key-file",
    argument: "file",
    help: "a file with the secret, which only its owner can read",
  },
  s3SessionToken: {
    env: "SLIPWAY_S3_SESSION_TOKEN",
    flag: "s3-session-token",
    argument: "token",
    help: "of a key that is valid for a time; better in the environment",
    secret: true,
    also: ["AWS_SESSION_TOKEN"],
  },
} as const satisfies Record<string, Setting>;
