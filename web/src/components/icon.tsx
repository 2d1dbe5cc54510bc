/** An icon of the page (index.html); decorative, so its name is given by the text beside it. */
export function Icon({ name, small = false, className = "" }: { name: string; small?: boolean; className?: string }) {
  return (
    <svg className={`ic${small ? " s" : ""}${className === "" ? "" : ` ${className}`}`} aria-hidden="true">
      <use href={`#i-${name}`} />
    </svg>
  );
}
