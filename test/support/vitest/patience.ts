/**
 * How long a test waits for what is to be, ms: a bound for hangs only, which a machine that is ten
 * times slower than usual does not reach. A test may wait several times.
 */
export const PATIENCE_MS = 300_000;
