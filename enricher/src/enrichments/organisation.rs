//! The network's organisation by its registrable domain, which is what companies are known by. Only some databases
//! have it; where it is not there it stays empty, since a guess from a name would name the wrong company.

use schemas::EnrichedHit;

use super::{Context, lend};

pub(super) fn add<'a>(hit: &mut EnrichedHit<'a>, context: &Context<'a>) {
    hit.network.domain = lend(&context.address.network.domain);
}
