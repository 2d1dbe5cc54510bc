// Requests each endpoint with a token and prints one line of JSON per endpoint:
// `node check-token.mjs <token>`
import { call, report } from "./broker.mjs";

const as = process.argv[2];
report("spec", await call("GET", "/worker/v1/spec", { as }));
report("events", await call("POST", "/worker/v1/events", { as, body: '{"attempt":1,"events":[]}' }));
report("commands", await call("GET", "/worker/v1/commands", { as }));
report("git", await call("GET", "/git/repo.git/info/refs?service=git-receive-pack", { as }));
