/**
 * An icon of the page (index.html); decorative, so its name is given by the text beside it. Another
 * icon is another element: one that turns has a layer of its own, and the browser would see it move
 * when it leaves that layer.
 */
export function Icon({ name, small = false, className = "" }: { name: string; small?: boolean; className?: string }) {
  return (
    <svg key={name} className={`ic${small ? " s" : ""}${className === "" ? "" : ` ${className}`}`} aria-hidden="true">
      <use href={`#i-${name}`} />
    </svg>
  );
}
