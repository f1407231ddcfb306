/** Enough to tell ours from what something else left in the cookie. */
export const UUID = /^[\da-f-]{36}$/i;

/**
 * A UUID that begins with the time, version 7 (RFC 9562), so that ids sort by time, with 72 random bits. Made by hand,
 * since crypto.randomUUID exists on secure pages only.
 */
export function uuid7(now = Date.now()) {
  const time = now.toString(16).padStart(12, "0");
  const random = crypto.getRandomValues(new Uint8Array(9));
  const digits = random.reduce((text, byte) => text + (byte + 256).toString(16).slice(1), time + 7);
  return digits.replace(/^(.{8})(.{4})(.{4})(.{3})/, "$1-$2-$3-8$4-");
}
