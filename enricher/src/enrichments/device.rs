//! What the visitor holds in their hands. The parsing is [`crate::data::user_agents`]'s and cached there.

use schemas::{Device, EnrichedHit};

use super::{Context, lend};

pub(super) fn add<'a>(hit: &mut EnrichedHit<'a>, context: &Context<'a>) {
    let known = &context.user_agent.device;
    hit.device = Device {
        kind: known.kind,
        brand: lend(&known.brand),
        model: lend(&known.model),
        os: lend(&known.os),
        os_version: lend(&known.os_version),
        browser: lend(&known.browser),
        browser_version: lend(&known.browser_version),
    };
}
