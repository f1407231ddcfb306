// How the page installed the tag: the attributes of its script element.

// Only set while the script first runs, and not for modules.
const script = document.currentScript;
const attributes = { ...script?.dataset };

export const site = attributes.site;
export const manual = "manual" in attributes;

/** Milliseconds of visible time between heartbeats. */
export const heartbeat = 1000 * Math.max(1, +attributes.heartbeat || 15);

/** The collector's origin: where the tag itself came from. */
export const collector = script && new URL(script.src).origin;
