/** What a query had last, while the next answer is on its way and when it fails. */
import { useState } from "react";

export function useLast<T>(data: T | undefined): T | undefined {
  const [last, setLast] = useState(data);
  if (data !== undefined && data !== last) setLast(data);
  return data ?? last;
}
