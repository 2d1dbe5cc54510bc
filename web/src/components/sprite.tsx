/** Every icon as a symbol of one hidden SVG; `<Icon>` refers to them by id. */
const SYMBOLS = (
  <>
    <symbol id="i-bell" viewBox="0 0 24 24">
      <path d="M6 16.5V11a6 6 0 0 1 12 0v5.5l1.5 1.5h-15zM10 20.5a2.2 2.2 0 0 0 4 0" />
    </symbol>
    <symbol id="i-box" viewBox="0 0 24 24">
      <path d="M4.5 8 12 4l7.5 4v8L12 20l-7.5-4zM4.5 8 12 12l7.5-4M12 12v8" />
    </symbol>
    <symbol id="i-branch" viewBox="0 0 24 24">
      <circle cx="7" cy="5.5" r="2.2" />
      <circle cx="7" cy="18.5" r="2.2" />
      <circle cx="17" cy="7.5" r="2.2" />
      <path d="M7 7.7v8.6M17 9.7c0 3.8-3.6 4.6-7 5" />
    </symbol>
    <symbol id="i-camera" viewBox="0 0 24 24">
      <path d="M4 8h3.5l1.5-2.5h6L16.5 8H20v11H4z" />
      <circle cx="12" cy="13.2" r="3.2" />
    </symbol>
    <symbol id="i-check" viewBox="0 0 24 24">
      <path d="M5 12.5l4.5 4.5L19 7" />
    </symbol>
    <symbol id="i-chev-d" viewBox="0 0 24 24">
      <path d="M6 9.5l6 6 6-6" />
    </symbol>
    <symbol id="i-chev-l" viewBox="0 0 24 24">
      <path d="M14.5 6l-6 6 6 6" />
    </symbol>
    <symbol id="i-chev-r" viewBox="0 0 24 24">
      <path d="M9.5 6l6 6-6 6" />
    </symbol>
    <symbol id="i-clip" viewBox="0 0 24 24">
      <path d="M18.5 11.5 11.8 18a4 4 0 0 1-5.7-5.7l7-6.9a2.7 2.7 0 0 1 3.8 3.8l-6.7 6.6a1.3 1.3 0 0 1-1.9-1.9l5.9-5.8" />
    </symbol>
    <symbol id="i-clock" viewBox="0 0 24 24">
      <circle cx="12" cy="12" r="8.2" />
      <path d="M12 7.5V12l3 2" />
    </symbol>
    <symbol id="i-close" viewBox="0 0 24 24">
      <path d="M6 6l12 12M18 6 6 18" />
    </symbol>
    <symbol id="i-coin" viewBox="0 0 24 24">
      <circle cx="12" cy="12" r="8.2" />
      <path d="M14.6 9.2c-.5-.8-1.4-1.2-2.6-1.2-1.5 0-2.5.7-2.5 1.9 0 2.8 5.2 1.3 5.2 4.2 0 1.2-1.1 2-2.7 2-1.3 0-2.3-.5-2.8-1.4M12 6.5v11" />
    </symbol>
    <symbol id="i-comment" viewBox="0 0 24 24">
      <path d="M5.5 5h13A1.5 1.5 0 0 1 20 6.5v8a1.5 1.5 0 0 1-1.5 1.5H12l-4 3.5V16H5.5A1.5 1.5 0 0 1 4 14.5v-8A1.5 1.5 0 0 1 5.5 5z" />
    </symbol>
    <symbol id="i-console" viewBox="0 0 24 24">
      <path d="M4 18.5a8.5 8.5 0 1 1 16 0M12 17l4-5.5" />
      <circle className="full" cx="12" cy="17" r="1.5" />
    </symbol>
    <symbol id="i-diff" viewBox="0 0 24 24">
      <path d="M12 4.5v8M8 8.5h8M8 18.5h8" />
    </symbol>
    <symbol id="i-down" viewBox="0 0 24 24">
      <path d="M12 4.5v10.5M7 10.5l5 5 5-5M5 19.5h14" />
    </symbol>
    <symbol id="i-drain" viewBox="0 0 24 24">
      <path d="M4 6h16l-6 7v6l-4-2.5V13z" />
    </symbol>
    <symbol id="i-file" viewBox="0 0 24 24">
      <path d="M6.5 3.8h7.3l4.2 4.2v12.2H6.5zM13.5 4v4.3h4.3" />
    </symbol>
    <symbol id="i-follow" viewBox="0 0 24 24">
      <path d="M4 6.5h16M4 11.5h16M4 16.5h7M15 14l4 2.8-4 2.8z" />
    </symbol>
    <symbol id="i-fork" viewBox="0 0 24 24">
      <circle cx="7" cy="5.5" r="2.2" />
      <circle cx="17" cy="5.5" r="2.2" />
      <circle cx="12" cy="18.5" r="2.2" />
      <path d="M7 7.7c0 4 5 3.3 5 8.6M17 7.7c0 4-5 3.3-5 8.6" />
    </symbol>
    <symbol id="i-image" viewBox="0 0 24 24">
      <rect x="3.8" y="5" width="16.4" height="14" rx="2" />
      <circle cx="9" cy="10" r="1.6" />
      <path d="M4.2 17l5-4.5 3.2 2.8 3-2.8 4.6 4" />
    </symbol>
    <symbol id="i-inbox" viewBox="0 0 24 24">
      <path d="M4 13.5 6.2 5.5h11.6l2.2 8v5H4zM4 13.5h4.5l1.5 2.5h4l1.5-2.5H20" />
    </symbol>
    <symbol id="i-info" viewBox="0 0 24 24">
      <circle cx="12" cy="12" r="8.2" />
      <path d="M12 11v5M12 8v.2" />
    </symbol>
    <symbol id="i-key" viewBox="0 0 24 24">
      <circle cx="8" cy="15.5" r="3.8" />
      <path d="M10.8 12.7 19 4.5M16 7.5l2.5 2.5" />
    </symbol>
    <symbol id="i-laptop" viewBox="0 0 24 24">
      <path d="M5.5 16V6.5h13V16M3 19h18" />
    </symbol>
    <symbol id="i-lock" viewBox="0 0 24 24">
      <rect x="5.5" y="11" width="13" height="9" rx="2" />
      <path d="M8.5 11V8a3.5 3.5 0 0 1 7 0v3" />
    </symbol>
    <symbol id="i-more" viewBox="0 0 24 24">
      <circle className="full" cx="5.5" cy="12" r="1.5" />
      <circle className="full" cx="12" cy="12" r="1.5" />
      <circle className="full" cx="18.5" cy="12" r="1.5" />
    </symbol>
    <symbol id="i-off" viewBox="0 0 24 24">
      <path d="M4 4l16 16M7.2 8.7A8 8 0 0 0 4 11M10.5 6.7A12 12 0 0 1 20.5 11M9.5 12.6a5 5 0 0 0-2.3 1.6M14.8 13a5 5 0 0 1 2 1.2" />
      <circle className="full" cx="12" cy="18" r="1.4" />
    </symbol>
    <symbol id="i-pause" viewBox="0 0 24 24">
      <path d="M9 6v12M15 6v12" />
    </symbol>
    <symbol id="i-pencil" viewBox="0 0 24 24">
      <path d="M5 19l.8-3.8L16 5l3 3L8.8 18.2zM13.8 7.2l3 3" />
    </symbol>
    <symbol id="i-person" viewBox="0 0 24 24">
      <circle cx="12" cy="8" r="3.6" />
      <path d="M4.8 20c.6-3.8 3.5-6 7.2-6s6.6 2.2 7.2 6" />
    </symbol>
    <symbol id="i-phone" viewBox="0 0 24 24">
      <rect x="7" y="3" width="10" height="18" rx="2.4" />
      <path d="M11 18h2" />
    </symbol>
    <symbol id="i-plus" viewBox="0 0 24 24">
      <path d="M12 5v14M5 12h14" />
    </symbol>
    <symbol id="i-pr" viewBox="0 0 24 24">
      <circle cx="6.5" cy="5.8" r="2.2" />
      <circle cx="6.5" cy="18.2" r="2.2" />
      <circle cx="17.5" cy="18.2" r="2.2" />
      <path d="M6.5 8v8M17.5 16v-6.5a3 3 0 0 0-3-3H11M13.3 4 11 6.5 13.3 9" />
    </symbol>
    <symbol id="i-qr" viewBox="0 0 24 24">
      <rect x="4.5" y="4.5" width="6" height="6" rx="1" />
      <rect x="13.5" y="4.5" width="6" height="6" rx="1" />
      <rect x="4.5" y="13.5" width="6" height="6" rx="1" />
      <path d="M14 14h2.2v2.2M19.5 14v2M14 19.5h2M19.5 19.5h-.6" />
    </symbol>
    <symbol id="i-read" viewBox="0 0 24 24">
      <path d="M4 6h6a2 2 0 0 1 2 2v11a2 2 0 0 0-2-1.5H4zM20 6h-6a2 2 0 0 0-2 2v11a2 2 0 0 1 2-1.5h6z" />
    </symbol>
    <symbol id="i-search" viewBox="0 0 24 24">
      <circle cx="10.8" cy="10.8" r="6" />
      <path d="M15.3 15.3 20 20" />
    </symbol>
    <symbol id="i-send" viewBox="0 0 24 24">
      <path d="M12 19.5V5M6 11l6-6 6 6" />
    </symbol>
    <symbol id="i-shield" viewBox="0 0 24 24">
      <path d="M12 3.5 19 6v6c0 4.2-2.9 7-7 8.5-4.1-1.5-7-4.3-7-8.5V6z" />
    </symbol>
    <symbol id="i-st-awaiting" viewBox="0 0 24 24">
      <path
        className="full"
        d="M5.5 4h13A2.5 2.5 0 0 1 21 6.5v8a2.5 2.5 0 0 1-2.5 2.5H13l-4.5 4v-4h-3A2.5 2.5 0 0 1 3 14.5v-8A2.5 2.5 0 0 1 5.5 4z"
      />
      <path className="cut" d="M9.8 8.6a2.25 2.25 0 1 1 3.2 2.05c-.65.35-1 .75-1 1.45" />
      <circle className="cutfill" cx="12" cy="14.3" r="1.05" />
    </symbol>
    <symbol id="i-st-cancelled" viewBox="0 0 24 24">
      <circle cx="12" cy="12" r="8.2" />
      <path d="M6.3 17.7 17.7 6.3" />
    </symbol>
    <symbol id="i-st-cancelling" viewBox="0 0 24 24">
      <path d="M8.4 3.8h7.2l4.6 4.6v7.2l-4.6 4.6H8.4l-4.6-4.6V8.4z" />
      <rect className="full" x="9" y="9" width="6" height="6" rx="1" />
    </symbol>
    <symbol id="i-st-done" viewBox="0 0 24 24">
      <circle className="full" cx="12" cy="12" r="9" />
      <path className="cut" d="M7.8 12.3l3 3 5.4-6" />
    </symbol>
    <symbol id="i-st-failed" viewBox="0 0 24 24">
      <path className="full" d="M12 3.2 22 20.3H2z" />
      <path className="cut" d="M12 9.6v4.8" />
      <circle className="cutfill" cx="12" cy="17.3" r="1.15" />
    </symbol>
    <symbol id="i-st-parked" viewBox="0 0 24 24">
      <circle cx="12" cy="5.6" r="2.1" />
      <path d="M12 7.7V20M8 11h8M4.5 13.5c0 3.8 3.3 6.5 7.5 6.5s7.5-2.7 7.5-6.5M4.5 13.5l-1.3 2M4.5 13.5l2 1.2M19.5 13.5l1.3 2M19.5 13.5l-2 1.2" />
    </symbol>
    <symbol id="i-st-provisioning" viewBox="0 0 24 24">
      <path d="M12 3.8l7.2 4v8.4l-7.2 4-7.2-4V7.8zM4.8 7.8 12 12l7.2-4.2M12 12v8.2" />
    </symbol>
    <symbol id="i-st-pushing" viewBox="0 0 24 24">
      <path d="M12 16V4.5M6.8 9.7 12 4.5l5.2 5.2M5 20h14" />
    </symbol>
    <symbol id="i-st-queued" viewBox="0 0 24 24">
      <circle cx="12" cy="12" r="8" strokeDasharray="3.4 2.883" />
    </symbol>
    <symbol id="i-st-retrying" viewBox="0 0 24 24">
      <path d="M5.2 9.3A7.6 7.6 0 1 1 4.4 12.7M5.2 4.6v4.7h4.7" />
    </symbol>
    <symbol id="i-st-running" viewBox="0 0 24 24">
      <circle cx="12" cy="12" r="8.2" opacity=".35" />
      <path className="spin" d="M12 3.8a8.2 8.2 0 0 1 8.2 8.2" />
      <circle className="full" cx="12" cy="12" r="3.4" />
    </symbol>
    <symbol id="i-stop" viewBox="0 0 24 24">
      <rect className="full" x="6" y="6" width="12" height="12" rx="2.2" />
    </symbol>
    <symbol id="i-sync" viewBox="0 0 24 24">
      <path d="M5 12a7 7 0 0 1 12-5l2 2M19 12a7 7 0 0 1-12 5l-2-2M19 4.5V9h-4.5M5 19.5V15h4.5" />
    </symbol>
    <symbol id="i-term" viewBox="0 0 24 24">
      <path d="M5 7.5l4.5 4.5L5 16.5M11.5 17H19" />
    </symbol>
    <symbol id="i-trash" viewBox="0 0 24 24">
      <path d="M5 7h14M9.5 7V4.5h5V7M6.5 7l1 12.5h9L17.5 7M10.5 10.5v5.5M13.5 10.5v5.5" />
    </symbol>
    <symbol id="i-undo" viewBox="0 0 24 24">
      <path d="M8 5 4.5 8.5 8 12M5 8.5h9a5 5 0 0 1 0 10h-4" />
    </symbol>
    <symbol id="i-warn" viewBox="0 0 24 24">
      <path d="M12 4 21 19.5H3zM12 10v4.2M12 16.8v.2" />
    </symbol>
  </>
);

export function Sprite() {
  return (
    <svg className="sprite" aria-hidden="true">
      {SYMBOLS}
    </svg>
  );
}
