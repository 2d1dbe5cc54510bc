/** `s3://bucket/prefix`: a place in a bucket of S3-compatible storage. */

export interface BucketAddress {
  readonly bucket: string;
  /** Without slashes at its ends; "" = the whole bucket. */
  readonly prefix: string;
}

const ADDRESS = /^s3:\/\/([A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9])(?:\/([\w.=+@/-]{0,500}))?$/;

/** True for what is meant as one, however it is written. */
export const isBucketAddress = (text: string): boolean => /^s3:/i.test(text);

/** Null = it is none. */
export function parseBucketAddress(text: string): BucketAddress | null {
  const [, bucket, path = ""] = ADDRESS.exec(text) ?? [];
  if (bucket === undefined) return null;
  const prefix = path.replace(/\/+$/, "");
  const parts = prefix.split("/");
  if (prefix !== "" && parts.some((part) => part === "" || part === "." || part === "..")) return null;
  return { bucket, prefix };
}

export function formatBucketAddress({ bucket, prefix }: BucketAddress): string {
  return prefix === "" ? `s3://${bucket}` : `s3://${bucket}/${prefix}`;
}
