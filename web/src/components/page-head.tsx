/** The head of a page below another one, with the way back. */
import { Link, type LinkProps } from "@tanstack/react-router";
import { Icon } from "./icon.tsx";

export function PageHead({ title, back }: { title: string; back: NonNullable<LinkProps["to"]> }) {
  return (
    <header className="top sub">
      <Link className="iconbtn" to={back} aria-label="Back">
        <Icon name="chev-l" />
      </Link>
      <h1>{title}</h1>
    </header>
  );
}
