//! The enricher's memory with as many partner records as a large installation has.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::Command;
use std::time::Duration;

use local::{Fate, Process};
use schemas::topics::HITS_RAW;
use serde::{Deserialize, Serialize};

use crate::bed::{Bed, Cores, program, until};
use crate::pump::{self, Message};

/// How long publishing and following all of them may take.
const PATIENCE: Duration = Duration::from_secs(240);
/// What the enricher may use for the records: less than its whole target.
const PARTNER_BYTES: &str = "200000000";

/// An enricher that knows partners.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Partners {
    /// Records that were published, and those that it holds.
    pub published: usize,
    pub held: f64,
    /// What it says that they take, and the most memory that it had, bytes.
    pub record_bytes: f64,
    pub peak_bytes: u64,
}

/// Publishes so many records by the command that operators use, and then sends hits through an enricher.
pub fn with_partners(bed: &Bed, count: usize, raw: &[Message]) -> anyhow::Result<Partners> {
    let prefix = "partners.";
    pump::create(bed, prefix)?;
    let file = bed.path("partners.csv");
    write_records(&mut BufWriter::new(File::create(&file)?), count)?;
    let mut command = Command::new(program("enricher")?);
    command.args(["partners", "import"]).arg(&file);
    command.args(["--kafka-brokers", &bed.kafka.brokers(), "--topic-prefix", prefix]);
    let log = bed.path("partners.log");
    Process::start_on_lifeline("enricher partners import", &command, &log, Fate::Keep, bed.directory.path())?
        .finish(PATIENCE)?;
    pump::write(bed, prefix, &HITS_RAW, raw)?;
    let service = bed.enricher(prefix, Cores::MEASURED, &["--partner-bytes", PARTNER_BYTES])?;
    let enriched = || service.metric("enricher_hits_total", "outcome=\"enriched\"");
    until("all hits are enriched", PATIENCE, || Ok(enriched()? >= raw.len() as f64))?;
    let partners = Partners {
        published: count,
        held: service.metric("enricher_partner_records", "")?,
        record_bytes: service.metric("enricher_partner_bytes", "")?,
        peak_bytes: service.usage()?.peak_bytes,
    };
    service.stop()?;
    Ok(partners)
}

/// Companies by their networks and domains, as a partner delivers them.
fn write_records(file: &mut impl Write, count: usize) -> std::io::Result<()> {
    writeln!(
        file,
        "partner,match_kind,match_value,site,company_name,company_domain,permitted_uses,valid_until,attribute.industry"
    )?;
    for number in 0..count {
        let (kind, value) = if number % 2 == 0 {
            ("ip_range", format!("{}.{}.{}.0/24", 11 + number / 65_536, number / 256 % 256, number % 256))
        } else {
            ("email_domain", format!("company{number}.example"))
        };
        writeln!(
            file,
            "acme,{kind},{value},,Company {number} Ltd,company{number}.example,measurement;advertising,,industry {}",
            number % 200
        )?;
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_another_ones() {
        let mut file = Vec::new();
        write_records(&mut file, 300_000).unwrap();
        let text = String::from_utf8(file).unwrap();
        let values: std::collections::HashSet<_> = text.lines().skip(1).map(|line| line.split(',').nth(2)).collect();
        assert_eq!(values.len(), 300_000);
    }
}
