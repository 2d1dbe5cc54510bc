/**
 * The HTTP client of guarded connections, in a module of its own that is loaded when it is used: a
 * bundle gives a package that is CommonJS no names when it is imported dynamically.
 */
import { Agent } from "undici";

export const openAgent = (options: Agent.Options): Agent => new Agent(options);
