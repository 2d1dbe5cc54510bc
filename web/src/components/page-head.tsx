/** The head of a page below another one, with the way back. */
import { Link } from "../navigation/link.tsx";
import { Icon } from "./icon.tsx";

export function PageHead({ title, back }: { title: string; back: string }) {
  return (
    <header className="top sub">
      <Link className="iconbtn" to={back} aria-label="Back">
        <Icon name="chev-l" />
      </Link>
      <h1>{title}</h1>
    </header>
  );
}
