// The address holds all state of a page: namespace, page, object, filters. So every view has a link.

import { signal } from "@preact/signals";

const root = document.documentElement.dataset;
const base = new URL(document.baseURI);

/** settings are those of the server, from the document. */
export const settings = { api: root.api!, root: root.root!, namespace: root.namespace!, home: root.home!, login: root.login!, version: root.version! };

export interface Route {
  namespace: string;
  page: string;
  /** name is the queue, the task or the ticker of a page about one. */
  name: string;
  query: URLSearchParams;
}

/** read returns the route of the present address. */
function read(): Route {
  const below = location.pathname.slice(base.pathname.length);
  const [namespace = "", page = "", name = ""] = below.split("/").map(decode);
  return { namespace, page, name, query: new URLSearchParams(location.search) };
}

/** decode returns a part of a path. One with a wrong escape stays as it is. */
function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const route = signal<Route>(read());

/** visits grows with each change of the page, so that the focus moves once for each. */
export const visits = signal(0);

type Query = Record<string, string | string[] | undefined> | URLSearchParams;

/** href returns the address of a page of the present namespace, relative to the base of the document. */
export function href(page: string, name = "", query?: Query, namespace = route.value.namespace): string {
  const path = [namespace, page, ...(name ? [name] : [])].map(encodeURIComponent).join("/");
  const search = new URLSearchParams();
  if (query instanceof URLSearchParams) query.forEach((value, key) => search.append(key, value));
  else
    for (const [key, value] of Object.entries(query ?? {}))
      for (const one of Array.isArray(value) ? value : [value]) if (one) search.append(key, one);
  return path + (search.size ? `?${search}` : "");
}

/** go opens an address of the dashboard. With replace it takes the place of the present one in the history. */
export function go(to: string, replace = false) {
  const url = new URL(to, base);
  const samePage = url.pathname === location.pathname;
  history[replace ? "replaceState" : "pushState"](null, "", url);
  route.value = read();
  if (!samePage) {
    visits.value++;
    scrollTo(0, 0);
  }
}

/** setQuery changes parameters of the present address. An empty value removes one. */
export function setQuery(changes: Record<string, string | string[]>, replace = true) {
  const query = new URLSearchParams(location.search);
  for (const [key, value] of Object.entries(changes)) {
    query.delete(key);
    for (const one of Array.isArray(value) ? value : [value]) if (one) query.append(key, one);
  }
  const { page, name } = route.value;
  go(href(page, name, query), replace);
}

/** follow lets links of the dashboard change the page without loading it anew. */
export function follow() {
  addEventListener("popstate", () => {
    const before = route.value;
    route.value = read();
    if (before.page !== route.value.page || before.name !== route.value.name || before.namespace !== route.value.namespace) visits.value++;
  });
  addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element).closest?.("a[href]") as HTMLAnchorElement | null;
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (!link.pathname.startsWith(base.pathname) || link.dataset.load !== undefined) return;
    event.preventDefault();
    go(link.href);
  });
}

/** here is the present address as the server sees it, behind any path of a proxy. */
export const here = () => `${settings.home}/${location.pathname.slice(base.pathname.length)}${location.search}`;

/** apiURL returns the address of a REST route. */
export const apiURL = (path: string) => new URL(settings.api + path, base).href;
