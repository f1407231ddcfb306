// A collector, a demo server and a ClickHouse that are not: enough of each to develop the tag and these scenarios
// without the pipeline. It keeps what the tag sends as it comes, so that what the tag should not send would show.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

import { SITE } from "../../../collector/tag/test/site.mjs";

const DEMO = fileURLToPath(new URL("../demo/", import.meta.url));
const TAG = fileURLToPath(new URL("../../../collector/tag/dist/t.js", import.meta.url));
const TYPES = { ".html": "text/html; charset=utf-8", ".css": "text/css", ".pdf": "application/pdf" };

const SITES = {
  demo: SITE,
  "demo-consent": { ...SITE, consent: "required" },
  "demo-drop": { ...SITE, signals: "drop" },
  "demo-cookieless": { ...SITE, cookieless: true },
};

const KINDS = {
  page: "page_view",
  download: "download",
  outlink: "outlink",
  form: "form",
  identify: "identify",
  heartbeat: "heartbeat",
  search: "search",
};

export async function startFake() {
  const rows = [];
  const servers = [];
  const listen = async (handler) => {
    const server = createServer((request, answer) =>
      handler(request, answer).catch((error) => answer.writeHead(500).end(String(error))),
    );
    await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
    servers.push(server);
    return `http://127.0.0.1:${server.address().port}`;
  };
  const collector = await listen((request, answer) => collect(request, answer, rows));
  const demo = await listen((request, answer) => serve(request, answer, collector));
  const clickhouse = await listen(async (request, answer) => {
    const asked = new URL(request.url, "http://x").searchParams;
    let query = "";
    for await (const chunk of request) query += chunk;
    if (query.includes("FROM sessions_of_hits")) {
      const session = sessionOf(rows.filter((row) => row.visitor_id === asked.get("param_visitor")));
      return answer.end(JSON.stringify(session) + "\n");
    }
    const marker = asked.get("param_marker");
    const found = rows
      .filter((row) => row.user_agent.includes(marker))
      .sort((one, other) => one.occurred_at - other.occurred_at);
    return answer.end(found.map((row) => JSON.stringify(row) + "\n").join(""));
  });
  const stop = () =>
    servers.forEach((server) => {
      server.close();
      server.closeAllConnections();
    });
  return { collector, demo, clickhouse, rows, stop };
}

async function serve(request, answer, collector) {
  let path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
  if (path.startsWith("/app/")) path = "/app/index.html";
  if (path.endsWith("/")) path += "index.html";
  const body = await readFile(join(DEMO, path)).catch(() => null);
  if (!body) return answer.writeHead(404).end("not found");
  const html = extname(path) === ".html";
  answer.setHeader("Content-Type", TYPES[extname(path)] || "application/octet-stream");
  return answer.end(html ? body.toString().replaceAll("{{COLLECTOR}}", collector) : body);
}

async function collect(request, answer, rows) {
  const { pathname } = new URL(request.url, "http://x");
  const { origin, cookie = "" } = request.headers;
  if (origin) {
    answer.setHeader("Access-Control-Allow-Origin", origin);
    answer.setHeader("Access-Control-Allow-Credentials", "true");
  }
  if (pathname === "/t.js") return answer.setHeader("Content-Type", "text/javascript").end(await readFile(TAG));
  if (pathname.startsWith("/v1/sites/")) {
    const site = SITES[pathname.slice(10)];
    return site ? answer.end(JSON.stringify(site)) : answer.writeHead(404).end();
  }
  if (pathname === "/opt-out" || pathname === "/opt-in") return answer.end();
  if (pathname !== "/v1/hits") return answer.writeHead(404).end();
  let body = "";
  for await (const chunk of request) body += chunk;
  const hits = JSON.parse(body);
  for (const hit of hits) rows.push(toRow(hit, request.headers["user-agent"], signalOf(hit, request.headers, cookie)));
  return answer.end(JSON.stringify({ accepted: hits.length, rejected: [] }));
}

function signalOf(hit, headers, cookie) {
  if (headers["sec-gpc"] === "1") return "global_privacy_control";
  if (cookie.includes("hitmeter_opt_out=1")) return "opt_out";
  return SITES[hit.site].consent === "required" && !hit.consent?.measurement ? "no_consent" : "none";
}

function sessionOf(rows) {
  const count = (kind) => rows.filter((row) => row.kind === kind).length;
  const longest = {};
  for (const { page_view_id: view, duration_ms: ms } of rows) longest[view] = Math.max(longest[view] || 0, ms);
  return {
    page_views: count("page_view"),
    downloads: count("download"),
    visible_duration_ms: Object.values(longest).reduce((sum, ms) => sum + ms, 0),
    campaign_source: rows.map((row) => new URL(row.page_url).searchParams.get("utm_source")).find(Boolean),
  };
}

function toRow(hit, userAgent, signal) {
  const kind = KINDS[hit.event] || "event";
  const { contact = {}, consent = {} } = hit;
  return {
    site: hit.site,
    kind,
    event_name: kind === "event" ? hit.event : "",
    hit_id: hit.hit,
    page_view_id: hit.page_view ?? null,
    protocol: hit.tag ? "tag" : "api",
    visitor_id: hit.visitor || "",
    visitor_id_source: hit.visitor ? "client" : "none",
    session_id: hit.session ?? null,
    page_url: hit.url,
    page_title: hit.title,
    referrer: hit.referrer,
    target_url: hit.target || "",
    search_term: hit.search || "",
    duration_ms: hit.duration ?? null,
    contact_name: contact.name || "",
    contact_email: contact.email || "",
    contact_phone: contact.phone || "",
    contact_job_title: contact.job_title || "",
    contact_company: contact.company || "",
    contact_address: contact.address || "",
    properties: hit.properties || {},
    consent_measurement: consent.measurement ?? null,
    consent_wording: consent.wording || "",
    signal,
    user_agent: userAgent,
    time_zone: hit.timezone || "",
    screen_width: parseInt(hit.screen || "0", 10),
    occurred_at: hit.time,
  };
}
