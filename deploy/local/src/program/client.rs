//! The commands that a person gives: up, down, status. They talk to the supervisor through its state file and signals.

use crate::services::ready;
use crate::settings::Settings;
use crate::state::{Part, Phase, State, is_running};
use crate::visit;
use anyhow::{Context, bail};
use local::{require_free, tail};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often the state file is looked at.
const POLL: Duration = Duration::from_millis(100);
/// How long the stack may take to start.
const UP_WITHIN: Duration = Duration::from_secs(300);
/// How long it may take to stop in order.
const DOWN_WITHIN: Duration = Duration::from_secs(120);

/// Starts the stack, or says that it runs already.
pub fn up(settings: &Settings) -> anyhow::Result<()> {
    if is_running(settings)? {
        println!("The stack is up already (`make down` stops it).");
        status(settings)?;
        print_addresses(settings);
        return Ok(());
    }
    for (who, port, variable) in settings.ports() {
        require_free(port, who, variable)?;
    }
    let started = Instant::now();
    spawn_supervisor(settings)?;
    follow(settings, started)?;
    let visit = visit::send(settings)?;
    println!("\nOne visit was sent to {}/p.gif; its row in ClickHouse:\n", settings.collector_url());
    println!("{}\n", visit::row(settings, &visit)?);
    visit::settle(settings, &visit)?;
    print_addresses(settings);
    Ok(())
}

/// The supervisor gets a process group of its own and no terminal: it outlives the command that started it.
fn spawn_supervisor(settings: &Settings) -> anyhow::Result<()> {
    let log = settings.log("supervisor");
    let directory = settings.directory.join("logs");
    std::fs::create_dir_all(&directory).with_context(|| format!("can't create {}", directory.display()))?;
    let _ = std::fs::remove_file(settings.run("state.json"));
    let output = File::create(&log).with_context(|| format!("can't create {}", log.display()))?;
    let errors = output.try_clone()?;
    // Every option is passed on as it is: through the same words and the same environment.
    let mut words: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(action) = words.iter_mut().find(|word| *word == "up") {
        *action = "supervise".into();
    }
    Command::new(std::env::current_exe()?)
        .args(words)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .context("can't start the supervisor")?;
    Ok(())
}

/// Shows each part as it becomes ready.
fn follow(settings: &Settings, started: Instant) -> anyhow::Result<()> {
    let mut shown = Vec::new();
    loop {
        if let Some(state) = State::read(settings) {
            for part in state.parts.iter().filter(|part| part.phase == Phase::Ready) {
                if !shown.contains(&part.name) {
                    println!("{:>5.1} s  {}", started.elapsed().as_secs_f32(), line(part));
                    shown.push(part.name.clone());
                }
            }
            match state.phase {
                Phase::Ready => return Ok(()),
                Phase::Failed => {
                    // It stops what it had started: the ports are free again when this returns.
                    wait_until_down(settings, DOWN_WITHIN)?;
                    bail!("the stack did not start: {}", state.problem)
                }
                Phase::Stopping => bail!("the stack was stopped while it started"),
                Phase::Starting => {}
            }
        }
        if started.elapsed() > UP_WITHIN {
            bail!("the stack is not up after {} s; see {}", UP_WITHIN.as_secs(), settings.log("supervisor").display());
        }
        if started.elapsed() > Duration::from_secs(3) && !is_running(settings)? {
            bail!("the supervisor ended:\n{}", tail(&settings.log("supervisor")));
        }
        std::thread::sleep(POLL);
    }
}

fn line(part: &Part) -> String {
    let note = part.note.lines().next().unwrap_or_default();
    let note = if note.is_empty() { String::new() } else { format!("   ({note})") };
    format!("{:<11} {}{note}", part.name, part.address)
}

/// Shows every part, and fails when the stack is not up or a part is not well.
pub fn status(settings: &Settings) -> anyhow::Result<()> {
    if !is_running(settings)? {
        bail!("the stack is down (`make up` starts it)");
    }
    let state = State::read(settings).context("the supervisor has not told anything yet")?;
    let mut unwell = 0;
    for part in &state.parts {
        let (word, detail) = condition(settings, part);
        println!("{word:<9} {}{detail}", line(part));
        unwell += u32::from(word != "ready");
    }
    let logs = settings.directory.join("logs");
    if state.phase != Phase::Ready {
        bail!("the stack is {}; the logs are in {}", format!("{:?}", state.phase).to_lowercase(), logs.display());
    }
    if unwell > 0 {
        bail!("{unwell} of {} parts do not run as they should; the logs are in {}", state.parts.len(), logs.display());
    }
    println!("The logs are in {}.", logs.display());
    Ok(())
}

/// What the supervisor knows of a part, and for the services what they say themselves at this moment.
fn condition(settings: &Settings, part: &Part) -> (&'static str, String) {
    let metrics_port = match part.name.as_str() {
        "sink" => Some(settings.sink_metrics_port),
        "enricher" => Some(settings.enricher_metrics_port),
        "collector" => Some(settings.collector_metrics_port),
        _ => None,
    };
    match (part.phase, metrics_port) {
        (Phase::Ready, Some(port)) => match ready(port) {
            Ok(()) => ("ready", String::new()),
            Err(reason) => ("NOT READY", format!("   ({reason})")),
        },
        (Phase::Ready, None) => ("ready", String::new()),
        (Phase::Starting, _) => ("starting", String::new()),
        (Phase::Stopping, _) => ("stopping", String::new()),
        (Phase::Failed, _) => ("ENDED", String::new()),
    }
}

/// Stops the stack and keeps its data.
pub fn down(settings: &Settings) -> anyhow::Result<()> {
    if !is_running(settings)? {
        println!("The stack is down already.");
        return Ok(());
    }
    let state = State::read(settings).context("the supervisor has not told its process id yet; try again")?;
    let supervisor = i32::try_from(state.process_id).ok().and_then(rustix::process::Pid::from_raw);
    let supervisor = supervisor.context("the state file holds no process id")?;
    rustix::process::kill_process(supervisor, rustix::process::Signal::TERM)?;
    println!("Stopping ...");
    if wait_until_down(settings, DOWN_WITHIN)? {
        println!("The stack is down. Its data is kept in {}.", settings.data("").display());
        return Ok(());
    }
    // The parts notice the end of the supervisor and end themselves.
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL)?;
    bail!("the stack did not stop within {} s and was killed", DOWN_WITHIN.as_secs());
}

fn wait_until_down(settings: &Settings, within: Duration) -> anyhow::Result<bool> {
    let deadline = Instant::now() + within;
    while is_running(settings)? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(POLL);
    }
    Ok(true)
}

fn print_addresses(settings: &Settings) {
    let clickhouse = settings.clickhouse_url();
    println!("Demo site      {}   (open it in a browser and click around)", settings.site_url());
    println!("Collector      {}/p.gif, /v1/hits, /t.js", settings.collector_url());
    println!(
        "ClickHouse     {clickhouse}   (user analyst, no password; or as default on port {})",
        settings.clickhouse_tcp_port
    );
    for (service, port) in [
        ("collector", settings.collector_metrics_port),
        ("enricher", settings.enricher_metrics_port),
        ("sink", settings.sink_metrics_port),
    ] {
        println!("Metrics        http://127.0.0.1:{port}/metrics   ({service})");
    }
    println!(
        "Logs           {}\n\nThree queries to try; what you do on the site is in the first two within a minute, in the third at once:",
        settings.directory.join("logs").display()
    );
    for sql in visit::QUERIES {
        println!("  curl '{clickhouse}/?user=analyst' --data \"{sql}\"");
    }
}
