/** Wraps a function so that nothing it throws reaches the page. */
export const safely =
  (work) =>
  (...given) => {
    try {
      return work(...given);
    } catch {
      // A tag that fails measures less; the page must not notice.
    }
  };

/** setTimeout with a function that can't throw into the page. */
export const later = (work, milliseconds) => setTimeout(safely(work), milliseconds);

/** Runs something when the page has nothing better to do, soon where the browser can't tell. */
export const whenIdle = (work) => (window.requestIdleCallback || setTimeout)(safely(work));

/** Listens early: no other listener can hide the event. */
export const on = (target, type, work) => target.addEventListener(type, safely(work), true);
