//! Where the address is, by the city database.

use std::borrow::Cow;

use schemas::{EnrichedHit, Place};

use super::{Context, lend, note};

pub(super) fn add<'a>(hit: &mut EnrichedHit<'a>, context: &Context<'a>) {
    let known = &context.address.place;
    hit.place = Place {
        country: lend(&known.country),
        region: lend(&known.region),
        city: lend(&known.city),
        latitude: known.latitude,
        longitude: known.longitude,
        time_zone: lend(&known.time_zone),
    };
    hit.geoip_version = Cow::Borrowed(context.geoip_version);
    for problem in &context.address.problems {
        note(hit, *problem);
    }
}
