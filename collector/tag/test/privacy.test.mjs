import assert from "node:assert/strict";
import { test } from "node:test";
import { Browser } from "./browser.mjs";

const ada = { email: "ada@engines.example" };

// Longer than hits are gathered, and than a heartbeat takes.
const MOMENT = 1000;
const HEARTBEAT = 15000;
// Longer than the collector is left alone after one failure.
const RETRY = 2000;

const accept = (tab) => tab.hitmeter("consent", { measurement: true });
const refuse = (tab) => tab.hitmeter("consent", { measurement: false });
const optIn = (tab) => tab.hitmeter("optIn");
const optOut = (tab) => tab.hitmeter("optOut");

test("the tag runs here: a page view and a heartbeat under one id", async () => {
  const browser = new Browser();
  await browser.open();
  await browser.wait(HEARTBEAT + MOMENT);
  assert.deepEqual(
    browser.taken.map((hit) => hit.event),
    ["page", "heartbeat"],
  );
  assert.equal(new Set(browser.taken.map((hit) => hit.visitor)).size, 1);
  assert.deepEqual([...browser.cookies.keys()], ["hitmeter_visitor", "hitmeter_session"]);
});

test("where there are no ids, a consent does not take away what was submitted just before", async () => {
  const browser = new Browser({ cookieless: true });
  const tab = await browser.open();
  tab.hitmeter("identify", ada);
  accept(tab);
  await browser.wait(MOMENT);
  assert.deepEqual(
    browser.ofKind("identify").map((hit) => hit.contact),
    [ada],
  );
});

test("a refusal does", async () => {
  const browser = new Browser({ cookieless: true });
  const tab = await browser.open();
  tab.hitmeter("identify", ada);
  refuse(tab);
  await browser.wait(MOMENT);
  assert.deepEqual(browser.ofKind("identify"), []);
  assert.equal(browser.ofKind("consent").length, 1);
});

const ENDS = { "consent is refused": refuse, "the visitor opts out": optOut };

for (const [end, withdraw] of Object.entries(ENDS)) {
  test(`nothing personal that could not be sent is sent after ${end}`, async () => {
    const browser = new Browser({ cookieless: true });
    const tab = await browser.open();
    browser.collectorFails = true;
    tab.hitmeter("identify", ada);
    await browser.wait(MOMENT / 2);
    withdraw(tab);
    browser.collectorFails = false;
    await browser.wait(RETRY);
    tab.hitmeter("event", "later");
    await browser.wait(MOMENT);
    assert.equal(browser.ofKind("later").length, 1);
    assert.deepEqual(
      browser.taken.filter((hit) => hit.contact || hit.screen),
      [],
    );
  });
}

test("where there are no ids, a contact that could not be sent is sent again", async () => {
  const browser = new Browser({ cookieless: true });
  const tab = await browser.open();
  browser.collectorFails = true;
  tab.hitmeter("identify", ada);
  await browser.wait(MOMENT / 2);
  browser.collectorFails = false;
  await browser.wait(RETRY);
  assert.deepEqual(
    browser.ofKind("identify").map((hit) => hit.contact),
    [ada],
  );
  assert.equal(browser.stored.size, 0);
});

// The collector's own cookies tell it of an opt-out there, which the page may not see.
test("where there are no ids, what is personal goes out with the collector's cookies", async () => {
  const browser = new Browser({ cookieless: true });
  const tab = await browser.open();
  tab.hitmeter("identify", ada);
  await browser.wait(MOMENT);
  assert.deepEqual(
    browser.taken.map((hit) => [hit.event, hit.credentials]),
    [
      ["page", "include"],
      ["identify", "include"],
    ],
  );
});

test("what is not goes out without them, and apart", async () => {
  const browser = new Browser({ consent: "required" });
  const tab = await browser.open();
  await browser.wait(MOMENT);
  tab.hitmeter("event", "before");
  accept(tab);
  await browser.wait(MOMENT);
  assert.deepEqual(
    browser.taken.map((hit) => [hit.event, hit.credentials]),
    [
      ["page", "omit"],
      ["page", "include"],
      ["consent", "include"],
      ["before", "omit"],
    ],
  );
});

/** Two tabs in which choices were made one after the other, and what the first one sent afterwards. */
async function choicesInTwoTabs(settings, inFirst, inSecond, again = () => {}) {
  const browser = new Browser(settings);
  const first = await browser.open();
  inFirst(first);
  await browser.wait(MOMENT);
  const second = await browser.open();
  inSecond(second);
  await browser.wait(MOMENT);
  again(first);
  browser.taken.length = 0;
  await browser.wait(HEARTBEAT);
  first.leave();
  await first.comeBack();
  await browser.wait(MOMENT);
  return browser;
}

const isKnown = (hit) => Boolean(hit.visitor || hit.session || hit.screen);
const keptConsent = (browser) => JSON.parse(decodeURIComponent(browser.cookies.get("hitmeter_consent")));

test("consent that was withdrawn in another tab is withdrawn in this one", async () => {
  const browser = await choicesInTwoTabs({ consent: "required" }, accept, refuse);
  assert.ok(browser.ofKind("page").length && browser.ofKind("heartbeat").length);
  assert.deepEqual(browser.taken.filter(isKnown), []);
  assert.ok(browser.taken.every((hit) => hit.consent.measurement === false));
  assert.deepEqual([...browser.cookies.keys()], ["hitmeter_consent"]);
});

test("an opt-out in another tab outvotes an opt-in in this one", async () => {
  const browser = await choicesInTwoTabs({}, optIn, optOut);
  assert.ok(browser.ofKind("page").length && browser.ofKind("heartbeat").length);
  assert.deepEqual(browser.taken.filter(isKnown), []);
  assert.deepEqual([...browser.cookies.keys()], ["hitmeter_opt_out"]);
});

test("a choice of another kind leaves what was chosen in another tab", async () => {
  const out = await choicesInTwoTabs({}, optIn, optOut, accept);
  assert.equal(out.cookies.get("hitmeter_opt_out"), "1");
  assert.deepEqual(out.taken.filter(isKnown), []);
  const refused = await choicesInTwoTabs({ consent: "required" }, accept, refuse, optIn);
  assert.equal(keptConsent(refused).measurement, false);
  assert.deepEqual(refused.taken.filter(isKnown), []);
});

test("the latest choice counts, also where it is made in this tab", async () => {
  const accepted = await choicesInTwoTabs({ consent: "required" }, accept, refuse, accept);
  assert.equal(keptConsent(accepted).measurement, true);
  assert.deepEqual(accepted.taken.filter(isKnown), accepted.taken);
  const optedIn = await choicesInTwoTabs({}, optIn, optOut, optIn);
  assert.equal(optedIn.cookies.has("hitmeter_opt_out"), false);
  assert.deepEqual(optedIn.taken.filter(isKnown), optedIn.taken);
});

test("where the browser keeps no cookies, a choice counts as long as the page lasts", async () => {
  for (const object of [refuse, optOut]) {
    const browser = new Browser();
    browser.keepsCookies = false;
    const tab = await browser.open();
    object(tab);
    browser.taken.length = 0;
    tab.hitmeter("event", "later");
    await browser.wait(MOMENT);
    assert.deepEqual(browser.ofKind("later").map(isKnown), [false]);
  }
});

test("a refusal counts although the clock was set back since the consent", async () => {
  const browser = new Browser();
  const tomorrow = { measurement: true, time: browser.now() + 864e5 };
  browser.cookies.set("hitmeter_consent", encodeURIComponent(JSON.stringify(tomorrow)));
  const tab = await browser.open();
  refuse(tab);
  await browser.wait(MOMENT);
  assert.equal(keptConsent(browser).measurement, false);
  assert.deepEqual(browser.taken.map(isKnown), [false]);
});

/** Page views to which hits point both with an id and without. */
function tiedViews(hits) {
  const viewsOf = (chosen) => new Set(chosen.map((hit) => hit.page_view).filter(Boolean));
  const known = viewsOf(hits.filter((hit) => hit.visitor));
  return [...viewsOf(hits.filter((hit) => !hit.visitor))].filter((view) => known.has(view));
}

for (const [choice, inFirst, inSecond] of [
  ["withdrawn", accept, refuse],
  ["given", () => {}, accept],
]) {
  test(`consent ${choice} in another tab ties no hit with an id to one without`, async () => {
    const browser = new Browser({ consent: "required" });
    const first = await browser.open();
    inFirst(first);
    await browser.wait(MOMENT);
    inSecond(await browser.open());
    await browser.wait(MOMENT);
    first.hitmeter("event", "between");
    await browser.wait(HEARTBEAT);
    first.leave();
    await first.comeBack();
    await browser.wait(MOMENT);
    assert.deepEqual(tiedViews(browser.taken), []);
    assert.deepEqual(
      browser.taken.filter((hit) => hit.duration && !hit.page_view),
      [],
    );
    // The page that is begun anew has its hits as before.
    first.hitmeter("event", "last");
    await browser.wait(MOMENT);
    assert.equal(browser.ofKind("last")[0].page_view, browser.ofKind("page").at(-1).hit);
  });
}
