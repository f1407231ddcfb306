import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { test } from "node:test";
import { UUID, uuid7 } from "../src/ids.js";

// Browsers have it, Node from 20 on.
globalThis.crypto ??= webcrypto;

test("a UUIDv7 has its time, version and variant (RFC 9562, appendix A.6)", () => {
  // 0x017F22E279B0 is the example of the RFC: 2022-02-22 14:22:22 -05:00.
  const id = uuid7(0x017f22e279b0);
  assert.match(id, /^017f22e2-79b0-7[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.match(id, UUID);
});

test("early times are padded", () => assert.match(uuid7(1), /^00000000-0001-7/));

test("a thousand ids of one millisecond differ", () => {
  assert.equal(new Set(Array.from({ length: 1000 }, () => uuid7(5))).size, 1000);
});

test("other texts are no UUID", () => {
  for (const text of ["", "x", "017f22e2-79b0-7cc3-98c4-dc0c0c07398", "017f22e2-79b0-7cc3-98c4-dc0c0c07398;"]) {
    assert.doesNotMatch(text, UUID);
  }
});
