//! What a partner is given, and whom it is told of later.

use std::collections::BTreeSet;

use crate::commands::{Desk, PARTNER};
use crate::people::{Right, SITES, Site, Subject, sites_of};
use crate::world::World;

/// Sites whose people give permissions: the first of each customer.
pub fn sites() -> impl Iterator<Item = &'static Site> {
    SITES.iter().filter(|site| sites_of(site.customer).next() == Some(*site))
}

fn options(site: &Site, more: &[String]) -> Vec<String> {
    [&["acme".to_owned(), PARTNER[1].to_owned(), format!("--site={}", site.key)], more].concat()
}

/// Shares at all sites, and holds the files against who permits it, as `permits` tells. Gives what is wrong.
pub fn judge(
    world: &World,
    desk: &Desk<'_>,
    subjects: &[Subject],
    file: &str,
    permits: impl Fn(Right) -> bool,
) -> Vec<String> {
    let mut findings = Vec::new();
    std::fs::create_dir_all(world.directory.join("exports")).unwrap();
    for site in sites() {
        let path = world.directory.join(format!("exports/{file}-{}.csv", site.key));
        let more = ["--fields=name,email".to_owned(), format!("--output={}", path.display())];
        desk.must("share", &options(site, &more));
        let text = std::fs::read_to_string(path).unwrap();
        // The first field is the permission's id.
        let lines = text.lines().skip(1).filter_map(|line| Some(line.split_once(',')?.1.to_lowercase()));
        let given: BTreeSet<String> = lines.collect();
        let of_site = subjects.iter().filter(|subject| subject.customer == site.customer && permits(subject.right));
        let permitted = of_site.map(|subject| format!("{},{}", subject.name.to_lowercase(), subject.email));
        let permitted: BTreeSet<String> = permitted.collect();
        if given != permitted {
            findings.push(format!("the {file} share of {} gives {given:?}, permitted are {permitted:?}", site.key));
        }
    }
    findings
}

/// Asks whom the partner has to be told of: everybody who was given and withdrew. Gives what is wrong.
pub fn judge_notices(desk: &Desk<'_>, subjects: &[Subject]) -> Vec<String> {
    let mut findings = Vec::new();
    for site in sites() {
        let told = desk.must(
            "notices",
            &options(site, &[])[..].iter().filter(|word| **word != PARTNER[1]).cloned().collect::<Vec<_>>(),
        );
        let withdrawn = told.lines().filter(|line| line.contains(",withdraw,")).count();
        let gave = |subject: &&Subject| subject.customer == site.customer && subject.right == Right::Withdraw;
        let expected = subjects.iter().filter(gave).count();
        if withdrawn != expected || told.lines().count() != expected + 1 {
            findings.push(format!("{expected} people withdrew at {}, the partner is told: {told}", site.key));
        }
    }
    findings
}
