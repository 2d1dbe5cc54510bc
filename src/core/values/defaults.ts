/** Values that the server and the worker must agree on when nothing else was chosen. */

/** The model of a task that names none, where no list of allowed models replaces it. */
export const DEFAULT_MODEL = "claude-sonnet-5-5";
