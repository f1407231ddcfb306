// A visitor: a fresh browser that sees the demo site under a site key, with a marker in the user agent.

import { chromium } from "playwright-core";
import { rowsOf, sessionsOf, until } from "./rows.mjs";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // Nothing leaves the machine.
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
];

const AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36";

export async function createVisitor(settings, { name, site, heartbeat = 1, gpc = false }) {
  const marker = `visit-${settings.run}-${name}.`;
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    headless: true,
    // As a flag: what a context sets is missing in beacons that outlive their page.
    args: [...FLAGS, `--user-agent=${AGENT} ${marker}`],
  });
  const context = await browser.newContext({
    // Chromium has no such setting of its own: the header and what scripts see are set by hand.
    extraHTTPHeaders: gpc ? { "Sec-GPC": "1" } : {},
  });
  if (gpc) {
    await context.addInitScript(() => {
      Object.defineProperty(Navigator.prototype, "globalPrivacyControl", { get: () => true });
    });
  }
  const visitor = { browser, context, errors: [], posts: 0 };
  await context.addInitScript(showAs, { site, heartbeat });
  context.on("request", (request) => {
    if (request.url() === settings.collector + "/v1/hits") visitor.posts++;
  });
  context.on("weberror", (error) => visitor.errors.push(error.error().message));
  visitor.page = await context.newPage();
  visitor.open = (path) => visitor.page.goto(settings.demo + path);
  visitor.rows = (condition) => until(() => rowsOf(marker, settings.clickhouse), condition);
  visitor.sessions = (id, condition, deadline) =>
    until(() => sessionsOf(site, id, settings.clickhouse), condition, deadline);
  visitor.cookies = async () => (await context.cookies()).map(({ name: cookie }) => cookie).sort();
  visitor.unsent = () =>
    visitor.page.evaluate((key) => JSON.parse(localStorage.getItem("hitmeter_unsent_" + key) || "[]"), site);
  visitor.stored = () => visitor.page.evaluate(() => Object.keys(localStorage));
  visitor.settled = () =>
    visitor.page.waitForResponse((answer) => answer.url() === settings.collector + "/v1/hits" && answer.ok());
  return visitor;
}

/**
 * Runs in the page: makes it one of another site key, with heartbeats every so many seconds, before the tag runs. Not
 * done by changing the page on its way, since requests that are intercepted don't outlive the page as real ones do.
 */
function showAs({ site, heartbeat }) {
  new MutationObserver((_, observer) => {
    const script = document.querySelector("script[data-site]");
    if (!script) return;
    script.setAttribute("data-site", site);
    script.setAttribute("data-heartbeat", heartbeat);
    observer.disconnect();
  }).observe(document, { childList: true, subtree: true });
}
