//! Whose network the address is in, by the network database: a provider, or the company itself.

use schemas::{EnrichedHit, Network, Text};

use super::{Context, lend};

pub(super) fn add<'a>(hit: &mut EnrichedHit<'a>, context: &Context<'a>) {
    let known = &context.address.network;
    hit.network = Network { number: known.number, organisation: lend(&known.organisation), domain: Text::default() };
}
