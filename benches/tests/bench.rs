//! The program `bench`, as briefly as it can be run: every part of it measures something and stands in the report.

use std::process::Command;

/// Parts that `bench all` writes, each with when it was measured.
const PARTS: [&str; 5] = ["long run", "micro", "profiles", "requests", "stages"];

/// The programs that it starts are those that were built beside it: `cargo build --workspace --bins`.
#[test]
fn all_of_it_is_measured_and_reported() {
    if !local::servers_or_skip("all_of_it_is_measured_and_reported") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let micro = folder.path().join("micro.txt");
    std::fs::write(&micro, "codec  fastest").unwrap();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["all", "--quick", "--rate", "200", "--seconds", "2", "--micro"]).arg(&micro);
    bench.arg("--output").arg(folder.path());
    let output = bench.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let figures = std::fs::read(folder.path().join("results.json")).unwrap();
    let figures: serde_json::Value = serde_json::from_slice(&figures).unwrap();
    assert_eq!(figures["origins"].as_object().unwrap().keys().collect::<Vec<_>>(), PARTS);
    for (what, least) in [
        ("/requests/acknowledged", 1_000.0),
        ("/stages/exactly_once/0/hits_per_second", 1.0),
        ("/stages/sink/0/microseconds", 1.0),
        ("/stages/floor/0/insert", 0.1),
        ("/stages/enricher_latency/p50", 1.0),
        ("/stages/sink_latency/p50", 1.0),
        ("/stages/partners/held", 1_000.0),
        ("/runs/0/rows", 100.0),
    ] {
        let figure = figures.pointer(what).and_then(serde_json::Value::as_f64);
        assert!(figure.is_some_and(|figure| figure >= least), "{what} is {figure:?}; bench said:\n{said}");
    }
    let run = &figures["runs"][0];
    assert_eq!([&run["missing"], &run["doubled"]], [0, 0], "{run}");
    let text = std::fs::read_to_string(folder.path().join("RESULTS.md")).unwrap();
    for section in ["## Targets", "## Requests", "## The whole path", "## Profiles", "## Step by step"] {
        assert!(text.lines().any(|line| line == section), "{section} is missing:\n{text}");
    }
}
