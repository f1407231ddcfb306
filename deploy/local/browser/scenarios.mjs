// What visitors do on the demo site, and what the rows must tell of it.

import { check, checkThat } from "./report.mjs";
import { until } from "./rows.mjs";

const UUID7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

const ofKind = (rows, kind) => rows.filter((row) => row.kind === kind);
const pathOf = (address) => new URL(address).pathname;
const paths = (rows) => rows.map((row) => pathOf(row.page_url));
const leaves = (rows) => ofKind(rows, "heartbeat").filter((row) => row.properties.leave === "1");
// Under an objection there may be the hash of the day, but nothing that the browser kept or sent.
const viewOf = (row) => (isNone(row.page_view_id) ? row.hit_id : row.page_view_id);
const isRecognised = (row) => ["cookie", "client"].includes(row.visitor_id_source) || !isNone(row.session_id);
const isNone = (id) => !id || /^[0-]+$/.test(id);
const idCookies = (cookies) => cookies.filter((name) => /^hitmeter_(visitor|session)$/.test(name));

export const scenarios = [
  {
    name: "page-views",
    title: "page views, heartbeats and the leave beacon",
    async run(visitor, { demo }) {
      await visitor.open("/index.html?utm_source=newsletter");
      await visitor.rows((rows) => ofKind(rows, "heartbeat").length >= 2);
      await visitor.page.click("header a[href='/pricing.html']");
      await visitor.page.waitForURL("**/pricing.html");
      const rows = await visitor.rows((found) => ofKind(found, "page_view").length >= 2 && leaves(found).length >= 1);
      const [first, second] = ofKind(rows, "page_view");
      check("two page views", paths(ofKind(rows, "page_view")), ["/index.html", "/pricing.html"]);
      check("the query stays in the address", first?.page_url, demo + "/index.html?utm_source=newsletter");
      check("title", first?.page_title, "Norrvik Pumps: industrial pumps that stay put");
      check("no referrer at first", first?.referrer, "");
      checkThat("referrer is the page before", second?.referrer, "an address of the demo site", (it) =>
        it.startsWith(demo),
      );
      checkThat("hit id is a UUIDv7", first?.hit_id, "a UUIDv7", (id) => UUID7.test(id));
      check("a page view belongs to itself", first?.page_view_id, first?.hit_id);
      check("protocol", first?.protocol, "tag");
      check("the tag's own visitor id", first?.visitor_id_source, "client");
      check("one visitor", new Set(rows.map((row) => row.visitor_id)).size, 1);
      check("one session", new Set(rows.map((row) => row.session_id)).size, 1);
      checkThat("session is a UUIDv7", first?.session_id, "a UUIDv7", (id) => UUID7.test(id));
      const [zone, width] = await visitor.page.evaluate(() => [
        Intl.DateTimeFormat().resolvedOptions().timeZone,
        screen.width,
      ]);
      check("screen", first?.screen_width, width);
      // Looked up when the page is idle: not every hit waits for it.
      check("time zone", rows.find((row) => row.time_zone)?.time_zone, zone);
      const beats = ofKind(rows, "heartbeat").filter((row) => row.page_view_id === first?.hit_id);
      const durations = beats.map((row) => row.duration_ms);
      checkThat("heartbeats belong to their page view", beats.length, "at least 3", (count) => count >= 3);
      checkThat("first heartbeat after 1 s", durations[0], "1000 to 1600 ms", (ms) => ms >= 990 && ms <= 1600);
      checkThat("durations only grow", durations, "rising numbers", (all) =>
        all.every((ms, i) => !i || ms > all[i - 1]),
      );
      const leave = leaves(rows).find((row) => row.page_view_id === first?.hit_id);
      check("the leave beacon is the longest", leave?.duration_ms, Math.max(...durations));
      check("the leave beacon tells the page left", leave && pathOf(leave.page_url), "/index.html");
    },
  },
  {
    name: "application",
    title: "navigation in a single-page application",
    async run(visitor, { demo }) {
      await visitor.open("/app/");
      await visitor.page.waitForFunction(() => window.hitmeter?.loaded);
      await visitor.page.click("text=1. Medium");
      await visitor.page.click("text=2. Flow");
      await visitor.page.evaluate(() => history.replaceState(null, "", location.href));
      await visitor.page.evaluate(() => history.replaceState(null, "", "#top"));
      await visitor.rows((found) => ofKind(found, "page_view").length >= 3);
      await visitor.page.goBack();
      await visitor.rows((found) => ofKind(found, "page_view").length >= 4);
      await visitor.page.goBack();
      const rows = await visitor.rows((found) => ofKind(found, "page_view").length >= 5);
      const views = ofKind(rows, "page_view");
      check("each address is a page view", paths(views), ["/app/", "/app/medium", "/app/flow", "/app/medium", "/app/"]);
      check(
        "the referrer is the address before",
        views.map((row) => row.referrer && pathOf(row.referrer)),
        ["", "/app/", "/app/medium", "/app/flow", "/app/medium"],
      );
      check(
        "each has the title that the application set after the address",
        views.map((row) => row.page_title.split(" - ")[0]),
        ["Pump finder", "Medium", "Flow", "Medium", "Pump finder"],
      );
      check("each view is one of its own", new Set(views.map((row) => row.hit_id)).size, views.length);
      check("nothing else loaded", new URL(visitor.page.url()).origin, demo);
    },
  },
  {
    name: "links",
    title: "downloads and outlinks",
    async run(visitor, { demo }) {
      await visitor.open("/index.html");
      await visitor.rows((rows) => ofKind(rows, "page_view").length === 1);
      await visitor.page.click("#standards", { noWaitAfter: true });
      await visitor.rows((rows) => ofKind(rows, "outlink").length === 1);
      await visitor.open("/index.html");
      await visitor.page.waitForFunction(() => window.hitmeter?.loaded);
      await visitor.page.click("#datasheet", { noWaitAfter: true });
      const rows = await visitor.rows(
        (found) => ofKind(found, "download").length === 1 && ofKind(found, "outlink").length === 1,
      );
      check(
        "one outlink with its target",
        ofKind(rows, "outlink").map((row) => row.target_url),
        ["https://example.org/pump-standards"],
      );
      check(
        "one download with its file",
        ofKind(rows, "download").map((row) => row.target_url),
        [demo + "/files/n-series.pdf"],
      );
      const views = ofKind(rows, "page_view").map((row) => row.hit_id);
      checkThat("both belong to their page views", rows, "known page views", (all) =>
        all.every((row) => views.includes(row.page_view_id)),
      );
    },
  },
  {
    name: "session",
    title: "what an analyst reads of a visit, within 5 s of its last action",
    async run(visitor) {
      const began = Date.now();
      await visitor.open("/index.html?utm_source=newsletter");
      await visitor.rows((rows) => ofKind(rows, "heartbeat").length >= 1);
      await visitor.page.click("header a[href='/pricing.html']");
      await visitor.page.waitForURL("**/pricing.html");
      const rows = await visitor.rows((found) => ofKind(found, "page_view").length >= 2);
      await visitor.open("/index.html");
      await visitor.page.waitForFunction(() => window.hitmeter?.loaded);
      await visitor.page.click("#datasheet", { noWaitAfter: true });
      const ended = Date.now();
      const told = await visitor.sessions(
        rows[0]?.visitor_id,
        ([session]) => session?.downloads >= 1 && session.page_views >= 3,
        5000,
      );
      console.log(`# told ${Date.now() - ended} ms after the last action`);
      check("one session", told.length, 1);
      const [session = {}] = told;
      check("its pages", session.page_views, 3);
      check("its download", session.downloads, 1);
      check("its source", session.campaign_source, "newsletter");
      checkThat("its duration", session.visible_duration_ms, "from 1 s to all of the visit", (ms) => {
        return ms >= 990 && ms <= ended - began + 1000;
      });
    },
  },
  {
    name: "form",
    title: "a marked form with a business card",
    async run(visitor) {
      await visitor.open("/contact.html");
      const card = {
        name: "Ada Byron",
        email: "ada@engines.example",
        phone: "+44 20 7946 0000",
        role: "Head of Engines",
        company: "Analytical Engines Ltd",
        line1: "12 St James's Square",
        zip: "SW1Y 4JH",
        city: "London",
        country: "United Kingdom",
        message: "SECRET-MESSAGE",
        password: "SECRET-PASSWORD",
      };
      for (const [field, value] of Object.entries(card)) await visitor.page.fill(`[name=${field}]`, value);
      await visitor.page.click("#quotation button");
      const rows = await visitor.rows((found) => ofKind(found, "form").length >= 1);
      const [form] = ofKind(rows, "form");
      check("one form", ofKind(rows, "form").length, 1);
      check("name", form?.contact_name, "Ada Byron");
      check("e-mail", form?.contact_email, "ada@engines.example");
      check("telephone", form?.contact_phone, "+44 20 7946 0000");
      check("job title", form?.contact_job_title, "Head of Engines");
      check("company", form?.contact_company, "Analytical Engines Ltd");
      check("address", form?.contact_address, "12 St James's Square, SW1Y 4JH, London, United Kingdom");
      check("name of the form", form?.properties.form, "quotation");
      checkThat(
        "message, password and hidden field are not read",
        JSON.stringify(rows),
        "none of them",
        (all) => !/SECRET|not-for-anybody/.test(all),
      );
    },
  },
  {
    name: "search",
    title: "site search and custom events",
    async run(visitor) {
      await visitor.open("/search.html");
      await visitor.page.fill("input[name=q]", "slurry pump");
      await visitor.page.click("main form button");
      await visitor.rows((rows) => ofKind(rows, "search").length >= 1);
      await visitor.open("/products.html");
      await visitor.page.click("#d-series button");
      const rows = await visitor.rows((found) => ofKind(found, "event").length >= 1);
      const [search] = ofKind(rows, "search");
      check(
        "one search with its term",
        ofKind(rows, "search").map((row) => row.search_term),
        ["slurry pump"],
      );
      checkThat("it belongs to a page view of the result", search, "a page view", (row) =>
        ofKind(rows, "page_view").some(
          (view) => view.hit_id === row.page_view_id && view.page_url.includes("?q=slurry"),
        ),
      );
      const [event] = ofKind(rows, "event");
      check("custom event", event?.event_name, "interest");
      check("its properties", [event?.properties.product, event?.properties.page], ["D series", "products"]);
    },
  },
  {
    name: "consent",
    title: "consent required",
    site: "consent",
    async run(visitor) {
      await visitor.open("/privacy.html");
      const before = await visitor.rows((rows) => ofKind(rows, "heartbeat").length >= 1);
      check("before: a page view", ofKind(before, "page_view").length, 1);
      check("before: nobody is recognised", before.filter(isRecognised).length, 0);
      check("before: the reason", before[0]?.signal, "no_consent");
      check("before: no cookies", await visitor.cookies(), []);
      check("before: nothing stored", await visitor.stored(), []);
      await visitor.page.click("#agree");
      await visitor.rows((rows) => ofKind(rows, "event").length >= 1);
      await visitor.open("/pricing.html");
      const after = await visitor.rows((rows) => ofKind(rows, "page_view").length >= 3);
      const consent = ofKind(after, "event").find((row) => row.event_name === "consent");
      check("the consent itself is a row", consent?.consent_measurement, true);
      check("with its wording", consent?.consent_wording, "demo-2026-01");
      const view = ofKind(after, "page_view")[1];
      check("after: the page is viewed anew", view && pathOf(view.page_url), "/privacy.html");
      check("after: the visitor has an id", view?.visitor_id_source, "client");
      const earlier = new Set(after.filter((row) => !isRecognised(row)).map(viewOf));
      const tied = after.filter((row) => isRecognised(row) && earlier.has(viewOf(row)));
      check("after: no hit points to what was before", tied.length, 0);
      checkThat("after: and a session", view?.session_id, "a UUIDv7", (id) => UUID7.test(id));
      check("after: the cookies", await visitor.cookies(), [
        "hitmeter_consent",
        "hitmeter_session",
        "hitmeter_visitor",
      ]);
      await visitor.open("/privacy.html");
      await visitor.page.waitForFunction(() => window.hitmeter?.loaded);
      await visitor.page.click("#refuse");
      const cookies = await until(visitor.cookies, (names) => !idCookies(names).length);
      check("withdrawn: the id cookies are gone", cookies, ["hitmeter_consent"]);
      await visitor.open("/products.html");
      const last = await visitor.rows((rows) => paths(ofKind(rows, "page_view")).includes("/products.html"));
      check(
        "withdrawn: nobody is recognised",
        last.filter((row) => pathOf(row.page_url) === "/products.html" && isRecognised(row)).length,
        0,
      );
    },
  },
  {
    name: "signal",
    title: "Global Privacy Control",
    gpc: true,
    async run(visitor) {
      await visitor.open("/contact.html");
      await visitor.page.fill("[name=name]", "Grace Hopper");
      await visitor.page.fill("[name=email]", "grace@navy.example");
      await visitor.page.click("#quotation button");
      const rows = await visitor.rows(
        (found) => ofKind(found, "form").length >= 1 && ofKind(found, "heartbeat").length >= 1,
      );
      check("page view and form are counted", [ofKind(rows, "page_view").length, ofKind(rows, "form").length], [1, 1]);
      check("nobody is recognised", rows.filter(isRecognised).length, 0);
      check("no time zone", rows.filter((row) => row.time_zone).length, 0);
      check("no contact", rows.map((row) => (row.contact_email || "") + (row.contact_name || "")).join(""), "");
      check("the reason", rows[0]?.signal, "global_privacy_control");
      check("no cookies", await visitor.cookies(), []);
      check("nothing stored", await visitor.stored(), []);
    },
  },
  {
    name: "signal-drop",
    title: "Global Privacy Control where the site drops",
    site: "drop",
    gpc: true,
    async run(visitor, settings, witness) {
      await visitor.open("/index.html");
      await visitor.page.waitForFunction(() => window.hitmeter?.loaded);
      await visitor.page.evaluate(() => window.hitmeter("event", "never"));
      // Longer than a heartbeat takes, then leaving.
      await visitor.page.waitForFunction(() => performance.now() > 1500);
      await visitor.open("/pricing.html");
      // Someone without the signal comes later; once that row is there, one of the first would be too.
      const other = await witness("drop");
      await other.open("/index.html");
      const later = await other.rows((rows) => rows.length >= 1);
      check("a visitor without the signal is counted", ofKind(later, "page_view").length, 1);
      check("nothing was sent", visitor.posts, 0);
      check("no row", (await visitor.rows(() => true)).length, 0);
      check("no cookies", await visitor.cookies(), []);
    },
  },
  {
    name: "cookieless",
    title: "a site without cookies",
    site: "cookieless",
    async run(visitor) {
      const introduce = async () => {
        await visitor.open("/contact.html");
        await visitor.page.fill("[name=name]", "Grace Hopper");
        await visitor.page.fill("[name=email]", "grace@navy.example");
        await visitor.page.click("#quotation button");
      };
      await introduce();
      await visitor.rows((rows) => ofKind(rows, "form").length >= 1);
      await visitor.open("/pricing.html");
      const rows = await visitor.rows((found) => ofKind(found, "page_view").length >= 2);
      check("page views", paths(ofKind(rows, "page_view")), ["/contact.html", "/pricing.html"]);
      check("nobody is recognised", rows.filter(isRecognised).length, 0);
      check("of one day it is one visitor", new Set(rows.map((row) => row.visitor_id)).size, 1);
      check("what was given is kept", ofKind(rows, "form")[0]?.contact_email, "grace@navy.example");
      check("that is no objection", rows[0]?.signal, "none");
      check("no cookies", await visitor.cookies(), []);
      check("nothing stored", await visitor.stored(), []);
      await visitor.open("/privacy.html");
      await visitor.page.waitForFunction(() => window.hitmeter?.loaded);
      await visitor.page.click("#opt-out");
      const cookies = await until(visitor.cookies, (names) => names.length);
      check("opted out: that alone is kept", cookies, ["hitmeter_opt_out"]);
      await introduce();
      const after = await visitor.rows((found) => ofKind(found, "form").length >= 2);
      const out = ofKind(after, "form")[1];
      check("opted out: the reason", out?.signal, "opt_out");
      check("opted out: no contact", (out?.contact_email || "") + (out?.contact_name || ""), "");
    },
  },
  {
    name: "retry",
    title: "failed sends",
    heartbeat: 60,
    async run(visitor, { collector, demo }) {
      const busy = {
        status: 503,
        headers: {
          "Access-Control-Allow-Origin": demo,
          "Access-Control-Allow-Credentials": "true",
          "Retry-After": "1",
        },
      };
      let refused = 0;
      const block = (route) => (refused++ ? route.abort() : route.fulfill(busy));
      await visitor.page.route(collector + "/v1/hits", block);
      await visitor.open("/index.html");
      const kept = await until(visitor.unsent, (hits) => hits.length >= 1);
      check(
        "the page view is kept",
        kept.map((hit) => hit.event),
        ["page"],
      );
      await visitor.page.evaluate(() => window.hitmeter("event", "while-blocked"));
      const both = await until(visitor.unsent, (hits) => hits.length >= 2);
      check(
        "so is an event",
        both.map((hit) => hit.event),
        ["page", "while-blocked"],
      );
      check("no row meanwhile", (await visitor.rows(() => true)).length, 0);
      await visitor.open("/pricing.html");
      const over = await until(visitor.unsent, (hits) => hits.some((hit) => pathOf(hit.url) === "/pricing.html"));
      await visitor.page.unroute(collector + "/v1/hits", block);
      const rows = await visitor.rows((found) => over.every((hit) => found.some((row) => row.hit_id === hit.hit)));
      check(
        "all arrive under the same hit ids",
        rows.filter((row) => over.some((hit) => hit.hit === row.hit_id)).length,
        over.length,
      );
      checkThat("among them those of the page before", over, "the first two", (hits) =>
        both.every((hit) => hits.some((it) => it.hit === hit.hit)),
      );
      check("and the backlog is empty", (await until(visitor.unsent, (hits) => !hits.length)).length, 0);
      check("each once", new Set(rows.map((row) => row.hit_id)).size, rows.length);
    },
  },
  {
    name: "strict",
    title: "settings that can't be had",
    async run(visitor, { collector }) {
      await visitor.page.route(collector + "/v1/sites/*", (route) => route.abort());
      await visitor.open("/contact.html");
      await visitor.page.fill("[name=name]", "Grace Hopper");
      await visitor.page.fill("[name=email]", "grace@navy.example");
      await visitor.page.click("#quotation button");
      const rows = await visitor.rows((found) => ofKind(found, "form").length >= 1);
      check("page view and form are counted", [ofKind(rows, "page_view").length, ofKind(rows, "form").length], [1, 1]);
      check("the tag sends no id", rows.filter((row) => row.visitor_id_source === "client").length, 0);
      check("no contact", rows.map((row) => row.contact_email + row.contact_name).join(""), "");
      check("no cookies", await visitor.cookies(), []);
      check("nothing stored", await visitor.stored(), []);
    },
  },
  {
    name: "early",
    title: "leaving before the settings have come",
    async run(visitor, { collector }) {
      let asked = 0;
      // Never answered.
      await visitor.page.route(collector + "/v1/sites/*", () => {
        asked++;
      });
      await visitor.open("/pricing.html");
      await until(
        () => asked,
        (count) => count > 0,
      );
      // Longer than hits are gathered, and than a heartbeat takes.
      await visitor.page.waitForFunction(() => performance.now() > 1500);
      check("nothing is sent while waiting", visitor.posts, 0);
      await visitor.page.goto("about:blank");
      const rows = await visitor.rows((found) => ofKind(found, "page_view").length >= 1);
      check("the page view still arrives", paths(ofKind(rows, "page_view")), ["/pricing.html"]);
      check("without an id from the tag", rows.filter((row) => row.visitor_id_source === "client").length, 0);
      check("no cookies", await visitor.cookies(), []);
    },
  },
  {
    name: "opt-out",
    title: "opt-out and its undoing",
    async run(visitor) {
      await visitor.open("/privacy.html");
      const before = await visitor.rows((rows) => rows.length >= 1);
      check("before: the visitor has an id", before[0]?.visitor_id_source, "client");
      check("before: cookies", idCookies(await visitor.cookies()), ["hitmeter_session", "hitmeter_visitor"]);
      await visitor.page.click("#opt-out");
      const cookies = await until(
        visitor.cookies,
        (names) => names.includes("hitmeter_opt_out") && !idCookies(names).length,
      );
      check("the id cookies are gone", cookies, ["hitmeter_opt_out"]);
      await visitor.open("/pricing.html");
      const after = await visitor.rows((rows) => paths(rows).includes("/pricing.html"));
      const out = after.filter((row) => pathOf(row.page_url) === "/pricing.html");
      check("later hits are anonymous", out.filter(isRecognised).length, 0);
      check("the reason", out[0]?.signal, "opt_out");
      check("and no id cookie came back", idCookies(await visitor.cookies()), []);
      await visitor.open("/privacy.html");
      await visitor.page.waitForFunction(() => window.hitmeter?.loaded);
      await visitor.page.click("#opt-in");
      await until(visitor.cookies, (names) => !names.includes("hitmeter_opt_out"));
      await visitor.open("/products.html");
      const again = await visitor.rows((rows) => paths(rows).includes("/products.html"));
      const last = again.find((row) => pathOf(row.page_url) === "/products.html");
      check("undone: an id again", last?.visitor_id_source, "client");
      checkThat(
        "undone: another id than before",
        last?.visitor_id,
        "a new id",
        (id) => id && id !== before[0]?.visitor_id,
      );
    },
  },
];
