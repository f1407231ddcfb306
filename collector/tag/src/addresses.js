// What can be told from an address alone.

/** An address without the fragment, but for fragments that an application uses as routes (#/ and #!). */
export const pageAddress = (url) => url.replace(/#(?![/!]).*$/, "");

/** Term of a site search in a page's address; undefined when there is none. */
export function searchTerm(url, parameters) {
  const query = new URL(url).searchParams;
  return parameters.map((name) => query.get(name)?.trim()).find(Boolean);
}

/** "download", "outlink" or undefined: what following a link from a page is. */
export function linkKind(target, url, settings) {
  const { protocol, pathname, hostname } = new URL(target);
  if (!/^http/.test(protocol)) return undefined;
  const extension = pathname.split(".").pop().toLowerCase();
  if (settings.download_extensions.includes(extension)) return "download";
  const inside = [new URL(url).hostname, ...settings.internal_hosts];
  return inside.includes(hostname) ? undefined : "outlink";
}
