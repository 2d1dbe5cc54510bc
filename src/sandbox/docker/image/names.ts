/** Names of the images that Slipway makes, and of the containers that it makes them in. */
export const WORKER_REPOSITORY = "slipway-worker";
export const DERIVED_REPOSITORY = "slipway-derived";
/** Labels of a derived image: name and id of its base, and the tag of its worker image. */
export const DERIVED = { from: "slipway.from", base: "slipway.base", worker: "slipway.worker" } as const;
/** Label of containers that prepare an image, with the installation as its value. */
export const PREPARE_LABEL = "slipway.prepare";
/**
 * Entry point of containers that are created only to read or write files, and are never started.
 */
export const NEVER_STARTED = "/never-started";
