import { Link } from "../navigation/link.tsx";

export function NotFound() {
  return (
    <main className="page bare" id="main">
      <div className="empty">
        <h1>There is nothing at this address</h1>
        <p className="muted">The link may be old, or the task may belong to somebody else.</p>
        <Link className="btn line" to="/">
          Inbox
        </Link>
      </div>
    </main>
  );
}
