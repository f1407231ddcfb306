import assert from "node:assert/strict";
import { test } from "node:test";
import { STRICT, UNKNOWN, mergeConsent, permission } from "../src/permission.js";

const open = { consent: "not_required", signals: "anonymous", cookieless: false };
const all = { send: true, personal: true, ids: true };
const anonymous = { send: true, personal: false, ids: false };
const nothing = { send: false, personal: false, ids: false };

test("without need of consent everything may be done, until it is refused", () => {
  assert.deepEqual(permission(open, false, undefined), all);
  assert.deepEqual(permission(open, false, { advertising: false }), all);
  assert.deepEqual(permission(open, false, { measurement: false }), anonymous);
});

test("where consent is required, only a yes to measurement is one", () => {
  const site = { ...open, consent: "required" };
  assert.deepEqual(permission(site, false, undefined), anonymous);
  assert.deepEqual(permission(site, false, { advertising: true }), anonymous);
  assert.deepEqual(permission(site, false, { measurement: true }), all);
});

test("an objection is stronger than consent", () => {
  assert.deepEqual(permission(open, true, { measurement: true }), anonymous);
  assert.deepEqual(permission({ ...open, signals: "drop" }, true, { measurement: true }), nothing);
});

test("a cookieless site has no ids, but takes what a person submits", () => {
  assert.deepEqual(permission({ ...open, cookieless: true }, false), { send: true, personal: true, ids: false });
});

test("settings that can't be had require consent", () => {
  assert.deepEqual(permission(STRICT, false, undefined), anonymous);
  assert.deepEqual(permission(STRICT, true, undefined), nothing);
});

test("before the settings have come there are no ids even with consent", () => {
  assert.equal(permission(UNKNOWN, false, { measurement: true }).ids, false);
});

test("choices are laid over earlier ones", () => {
  const first = mergeConsent(undefined, { measurement: true, advertising: false }, "v1", 5);
  assert.deepEqual(first, { measurement: true, advertising: false, wording: "v1", time: 5 });
  const second = mergeConsent(first, { advertising: true, measurement: undefined, wording: true }, undefined, 6);
  assert.deepEqual(second, { measurement: true, advertising: true, wording: undefined, time: 6 });
  const third = mergeConsent(second, { advertising: "denied", measurement: 0, partner_sharing: null }, undefined, 7);
  assert.deepEqual(third, { measurement: false, advertising: false, wording: undefined, time: 7 });
  assert.equal(mergeConsent(undefined, null, "x".repeat(300), 7).wording.length, 200);
});
