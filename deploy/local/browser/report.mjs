// One line per check, in the form that the test runner counts.

let passed = 0;
let failed = 0;

const text = (value) => (value === undefined ? "nothing" : JSON.stringify(value));

export function check(name, actual, expected) {
  if (text(actual) === text(expected)) return ok(name);
  return notOk(name, `expected ${text(expected)}, actual ${text(actual)}`);
}

/** For values that are not known beforehand: says what was wanted in words. */
export function checkThat(name, actual, wanted, holds) {
  let good = false;
  try {
    good = Boolean(holds(actual));
  } catch {
    // A value of another shape does not hold either.
  }
  return good ? ok(name) : notOk(name, `expected ${wanted}, actual ${text(actual)}`);
}

export function fail(name, reason) {
  return notOk(name, reason);
}

/** Prints the closing line and answers the exit code. */
export function close() {
  console.log(`${passed} passed, ${failed} failed`);
  return failed || !passed ? 1 : 0;
}

function ok(name) {
  passed++;
  console.log(`ok - ${name}`);
  return true;
}

function notOk(name, reason) {
  failed++;
  console.log(`not ok - ${name}: ${reason}`);
  return false;
}
