// The browser test: headless Chromium visits the demo site, and the rows in ClickHouse must tell what happened.
//
//   DEMO_URL=http://127.0.0.1:8000 COLLECTOR_URL=http://127.0.0.1:8080 CLICKHOUSE_URL=http://127.0.0.1:8123 node visit.mjs
//
// DATABASE (hitmeter), CLICKHOUSE_USER, CLICKHOUSE_PASSWORD, CHROMIUM (/usr/bin/chromium); keys of four sites whose
// origins include the demo's: SITE (demo: no consent needed), SITE_CONSENT (demo-consent: consent required), SITE_DROP
// (demo-drop: hits under a signal are dropped), SITE_COOKIELESS (demo-cookieless). Names of scenarios as arguments run only
// these.

import { check, close, fail } from "./report.mjs";
import { scenarios } from "./scenarios.mjs";
import { createVisitor } from "./visitors.mjs";

const { env } = process;

function required(name) {
  if (env[name]) return new URL(env[name]);
  console.error(`${name} is not set; see the head of visit.mjs.`);
  process.exit(2);
}

const settings = {
  demo: required("DEMO_URL").origin,
  collector: required("COLLECTOR_URL").origin,
  clickhouse: {
    url: required("CLICKHOUSE_URL"),
    database: env.DATABASE || "hitmeter",
    user: env.CLICKHOUSE_USER,
    password: env.CLICKHOUSE_PASSWORD,
  },
  run: Date.now().toString(36),
};
const sites = {
  plain: env.SITE || "demo",
  consent: env.SITE_CONSENT || "demo-consent",
  drop: env.SITE_DROP || "demo-drop",
  cookieless: env.SITE_COOKIELESS || "demo-cookieless",
};

const wanted = process.argv.slice(2);
for (const scenario of scenarios) {
  if (!wanted.length || wanted.includes(scenario.name)) await play(scenario);
}
process.exit(close());

async function play({ name, title, site = "plain", heartbeat, gpc, run }) {
  console.log(`# ${name}: ${title}`);
  const visitors = [];
  const arrive = async (options) => {
    const visitor = await createVisitor(settings, options);
    visitors.push(visitor);
    return visitor;
  };
  try {
    const visitor = await arrive({ name, site: sites[site], heartbeat, gpc });
    await run(visitor, settings, (key) => arrive({ name: name + "-witness", site: sites[key] }));
    check(
      "no error in the page",
      visitors.flatMap(({ errors }) => errors),
      [],
    );
  } catch (error) {
    fail(name, error.message.split("\n")[0]);
  } finally {
    for (const { browser } of visitors) await browser.close();
  }
}
