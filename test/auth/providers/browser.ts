/** A browser without a screen: cookies per origin, redirects one at a time. */
export interface Page {
  readonly url: string;
  readonly status: number;
  readonly location: string | null;
  readonly text: string;
}

export class Browser {
  readonly #jars = new Map<string, Map<string, string>>();

  cookie(url: string, name: string): string | null {
    return this.#jars.get(new URL(url).host)?.get(name) ?? null;
  }

  setCookie(url: string, name: string, value: string): void {
    this.#jar(url).set(name, value);
  }

  async open(url: string, form?: Readonly<Record<string, string>>): Promise<Page> {
    const jar = this.#jar(url);
    const response = await fetch(url, {
      redirect: "manual",
      headers: { cookie: [...jar].map(([name, value]) => `${name}=${value}`).join("; "), accept: "text/html" },
      ...(form === undefined ? {} : { method: "POST", body: new URLSearchParams(form) }),
    });
    for (const line of response.headers.getSetCookie()) {
      const [, name = "", value = ""] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
      if (value === "" || /max-age=0|expires=thu, 01 jan 1970/i.test(line)) jar.delete(name);
      else jar.set(name, value);
    }
    const target = response.headers.get("location");
    const location = target === null ? null : new URL(target, url).href;
    return { url, status: response.status, location, text: await response.text() };
  }

  /**
   * Follows redirects until an address begins with `stop`, which is not opened, or a page comes.
   */
  async follow(page: Page, stop: string): Promise<Page> {
    let now = page;
    for (let hops = 0; now.location !== null && !now.location.startsWith(stop); hops++) {
      if (hops > 20) throw new Error(`too many redirects at ${now.url}`);
      now = await this.open(now.location);
    }
    return now;
  }

  #jar(url: string): Map<string, string> {
    const { host } = new URL(url);
    const jar = this.#jars.get(host) ?? new Map<string, string>();
    this.#jars.set(host, jar);
    return jar;
  }
}
