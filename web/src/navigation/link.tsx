/** A link within the app. What it leads to loads when a pointer or the focus rests on it. */
import type { ComponentProps } from "react";
import { Link as RouterLink } from "wouter";
import { preload, useAddress } from "./history.tsx";

interface LinkProps extends Omit<ComponentProps<"a">, "href"> {
  /** An address of the app. */
  to: string;
  /** The new address takes the place of the present one in the history. */
  replace?: boolean;
  /** The addresses below `to` are others; those below the inbox are in any case. */
  isExact?: boolean;
}

const REST_MS = 50;

let resting = 0;

function rest(to: string): void {
  clearTimeout(resting);
  resting = setTimeout(() => void preload(to), REST_MS);
}

export function Link({ to, replace = false, isExact = false, onFocus, ...attributes }: LinkProps) {
  const { path } = useAddress();
  const [own = ""] = to.split("?");
  const isCurrent = path === own || (!isExact && own !== "/" && path.startsWith(`${own}/`));
  return (
    <RouterLink
      aria-current={isCurrent ? "page" : undefined}
      {...attributes}
      href={to}
      replace={replace}
      onPointerEnter={() => rest(to)}
      onPointerLeave={() => clearTimeout(resting)}
      onFocus={(event) => {
        rest(to);
        onFocus?.(event);
      }}
    />
  );
}
