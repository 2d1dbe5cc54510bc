/**
 * The setup page of the one-time link, plain HTML. Its token is in the fragment, which browsers do
 * not send.
 */
import { createHash } from "node:crypto";
import { nothing, route } from "../route.ts";

const STYLE = `
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 24rem; padding: 2rem 1rem; color: #1a1a1a; background: #fff }
label { display: block; margin-top: 1rem }
input, button { font: inherit; width: 100%; box-sizing: border-box; padding: .6rem; margin-top: .25rem }
button { margin-top: 1.5rem }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #161616 } }
`;

const SCRIPT = `
const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
const form = document.querySelector("form");
const status = document.querySelector("[role=status]");
if (token === "") status.textContent = "Open the whole link that the server printed, with the part after #.";
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const answer = await fetch("/v1/setup", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ token, email: form.email.value, password: form.password.value }),
    });
    const body = await answer.json();
    if (answer.ok) {
      form.hidden = true;
      status.textContent = "Done. You can log in as " + body.user.email + ".";
      return;
    }
    const first = body.errors && body.errors[0];
    status.textContent = first ? first.path + " " + first.message : body.detail;
  } catch {
    status.textContent = "The server did not answer. Try again.";
  }
  button.disabled = false;
});
`;

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Slipway: first admin</title>
<style>${STYLE}</style>
</head>
<body>
<h1>Slipway</h1>
<form method="post" action="/v1/setup">
<p>Create the first account, which is the administrator.</p>
<label>E-mail <input name="email" type="email" autocomplete="username" required maxlength="254"></label>
<label>Password <input name="password" type="password" autocomplete="new-password" required minlength="10" maxlength="1024"></label>
<button>Create account</button>
</form>
<p role="status" aria-live="polite"></p>
<script>${SCRIPT}</script>
</body>
</html>
`;

const hashSource = (text: string): string => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

const POLICY = [
  "default-src 'none'",
  `script-src ${hashSource(SCRIPT)}`,
  `style-src ${hashSource(STYLE)}`,
  "connect-src 'self'",
  "form-action 'none'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join("; ");

export const setupRoutes = [
  route({
    method: "get",
    path: "/setup",
    access: "none",
    summary: "Setup page of the one-time link",
    query: nothing.loose(),
    answers: { 200: [{ media: "text/html" }] },
    async handle() {
      return {
        status: 200,
        media: "text/html",
        body: PAGE,
        headers: { "Content-Security-Policy": POLICY, "Cache-Control": "no-store" },
      };
    },
  }),
];
