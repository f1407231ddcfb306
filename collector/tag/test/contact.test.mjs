import assert from "node:assert/strict";
import { test } from "node:test";
import { partOf, pickContact, readContact } from "../src/contact.js";

const field = (name, value, autocomplete = "", type = "text") => ({ name, value, autocomplete, type });

/** A field that must not be looked at. */
const forbidden = (name, autocomplete, type) => ({
  name,
  autocomplete,
  type,
  get value() {
    throw new Error(`${name} was read`);
  },
});

test("a business card by autocomplete tokens", () => {
  const contact = readContact([
    field("a", " Ada ", "section-x given-name"),
    field("b", "Byron", "family-name"),
    field("c", "ada@engines.example", "work email", "email"),
    field("d", "+44 20 7946 0000", "tel", "tel"),
    field("e", "Head of Engines", "organization-title"),
    field("f", "Analytical Engines", "ORGANIZATION"),
    field("g", "12 St James's Square\nFloor 2", "street-address", "textarea"),
    field("h", "SW1Y 4JH", "postal-code"),
    field("i", "London", "address-level2"),
    field("j", "GB", "country", "select-one"),
  ]);
  assert.deepEqual(contact, {
    name: "Ada Byron",
    email: "ada@engines.example",
    phone: "+44 20 7946 0000",
    job_title: "Head of Engines",
    company: "Analytical Engines",
    address: "12 St James's Square Floor 2, SW1Y 4JH, London, GB",
  });
});

test("a business card by usual names", () => {
  const contact = readContact([
    field("first_name", "Grace", "on"),
    field("Last-Name", "Hopper", "off"),
    field("email", "grace@navy.example"),
    field("email_address", "other@navy.example"),
    field("job_title", "Rear Admiral"),
    field("company_name", "US Navy"),
  ]);
  assert.deepEqual(contact, {
    name: "Grace Hopper",
    email: "grace@navy.example",
    job_title: "Rear Admiral",
    company: "US Navy",
  });
});

test("no other field is looked at", () => {
  const contact = readContact([
    forbidden("password", "", "password"),
    forbidden("email", "email", "password"),
    forbidden("email", "", "hidden"),
    forbidden("name", "", "file"),
    forbidden("name", "cc-name", "text"),
    forbidden("phone", "cc-number", "text"),
    forbidden("email", "username", "text"),
    forbidden("phone", "one-time-code", "text"),
    forbidden("message", "", "textarea"),
    forbidden("company", "", "checkbox"),
    forbidden("constructor", "constructor", "text"),
    forbidden("", "", "text"),
  ]);
  assert.equal(contact, undefined);
});

test("fields of other kinds, such as fieldsets, have no part", () => {
  assert.equal(partOf({ type: "fieldset", name: "address" }), undefined);
  assert.equal(partOf({}), undefined);
});

test("identify takes the six fields, as texts, and nothing else", () => {
  assert.deepEqual(pickContact({ email: " a@b.example ", name: 5, salary: "1", phone: "" }), { email: "a@b.example" });
  assert.equal(pickContact({ salary: "1" }), undefined);
  assert.equal(pickContact(undefined), undefined);
  assert.equal(pickContact({ name: "x".repeat(900) }).name.length, 500);
});
