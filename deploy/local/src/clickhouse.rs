//! One ClickHouse from the engine that fetch.py brings, speaking the real HTTP and native protocols.
//!
//! No server package is needed: the engine of the `chdb-core` wheel opens the server's own listeners when asked to by
//! SQL (`SYSTEM START LISTEN`), see `launch/clickhouse.py`. What only a full server has is missing: users managed by
//! SQL, Keeper and replication, ON CLUSTER, the queue of asynchronous inserts.

use crate::ports::require_free;
use crate::process::{Fate, Process};
use crate::{LocalError, Paths};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long it may take to answer. It takes 0.5 to 2 s on an idle machine.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long an answer may take, on a machine that has much else to do, too.
const ANSWERS_WITHIN: Duration = Duration::from_secs(300);
/// Longest answer that is read, bytes: benches ask for a number of each row.
const LONGEST_ANSWER: u64 = 1 << 30;
/// Memory that the server may use, bytes.
const MEMORY: u64 = 3_000_000_000;
/// Memory that one query of an analyst may use, bytes.
const ANALYST_MEMORY: u64 = 1_000_000_000;
/// Time that one query of an analyst may take, seconds.
const ANALYST_SECONDS: u64 = 60;
/// Rows that one query of an analyst may read.
const ANALYST_ROWS_READ: u64 = 2_000_000_000;
/// Rows that one query of an analyst may answer with.
const ANALYST_ROWS: u64 = 1_000_000;
/// Settings with which it keeps what it is asked.
const QUERY_LOG: &str = "<query_log><database>system</database><table>query_log</table></query_log>";
/// The roles of analysts, as operators are given them.
const ROLES: &str = include_str!("../../../docs/analyst.xml");

/// The variable that moves the HTTP port in the local stack.
pub const HTTP_PORT_VARIABLE: &str = "HITMETER_CLICKHOUSE_HTTP_PORT";
/// The variable that moves the native port in the local stack.
pub const TCP_PORT_VARIABLE: &str = "HITMETER_CLICKHOUSE_TCP_PORT";

/// What a server has that others have not.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extras<'a> {
    /// Settings, as elements of its file.
    pub(crate) settings: &'a str,
    /// Its own time zone; that of this process otherwise.
    pub(crate) time_zone: Option<&'a str>,
}

/// A running ClickHouse on the loopback interface. Dropping it stops it and keeps its data. Three users, all without
/// a password and from this machine only: `default`, who may do everything, `analyst`, who may read, and
/// `analyst_without_contacts`, who has the role `analyst` of `docs/analyst.xml`.
#[derive(Debug)]
pub struct ClickHouse {
    process: Process,
    http_port: u16,
    tcp_port: u16,
}

impl ClickHouse {
    /// Starts a server on two ports of 127.0.0.1 with its data, settings and log in `directory`, and waits until it
    /// answers. What an earlier server left in `directory` is kept.
    ///
    /// # Errors
    /// When Python or the engine is missing, a port is in use, or the server does not come up (with the end of its
    /// log), for instance because another one runs on the same data.
    pub fn start(directory: &Path, http_port: u16, tcp_port: u16) -> Result<Self, LocalError> {
        Self::start_with(directory, (http_port, tcp_port), Fate::Keep, Extras::default())
    }

    /// The same, and keeps what it is asked in `system.query_log`, as servers do where their operators don't forbid it.
    ///
    /// # Errors
    /// As [`ClickHouse::start`].
    pub fn start_with_query_log(directory: &Path, http_port: u16, tcp_port: u16) -> Result<Self, LocalError> {
        let extras = Extras { settings: QUERY_LOG, ..Extras::default() };
        Self::start_with(directory, (http_port, tcp_port), Fate::Keep, extras)
    }

    /// The same as [`ClickHouse::start`], for a server whose own time zone is not UTC but that of this IANA name.
    ///
    /// # Errors
    /// As [`ClickHouse::start`].
    pub fn start_in_time_zone(
        directory: &Path,
        http_port: u16,
        tcp_port: u16,
        time_zone: &str,
    ) -> Result<Self, LocalError> {
        let extras = Extras { time_zone: Some(time_zone), ..Extras::default() };
        Self::start_with(directory, (http_port, tcp_port), Fate::Keep, extras)
    }

    pub(crate) fn start_with(
        directory: &Path,
        (http_port, tcp_port): (u16, u16),
        fate: Fate,
        extras: Extras<'_>,
    ) -> Result<Self, LocalError> {
        let engine = Self::available()?;
        require_free(http_port, "ClickHouse", HTTP_PORT_VARIABLE)?;
        require_free(tcp_port, "ClickHouse", TCP_PORT_VARIABLE)?;
        let configuration = directory.join("config");
        let instance = uuid::Uuid::new_v4().simple().to_string();
        prepare(directory, &configuration)?;
        let config = config(directory, (http_port, tcp_port), &instance, extras.settings);
        for (name, text) in [("config.xml", config), ("users.xml", users())] {
            let path = configuration.join(name);
            fs::write(&path, text).map_err(LocalError::file("write", &path))?;
        }

        let mut command = Command::new("python3");
        command.arg("-B").arg(Paths::new().deploy().join("launch/clickhouse.py"));
        command.arg(fate.word()).arg(directory).arg(engine).arg(&configuration).arg(directory.join("data"));
        // The engine does not read the setting that a server has for this.
        command.envs(extras.time_zone.map(|zone| ("TZ", zone)));
        let log = directory.join("clickhouse.log");
        let mut process = Process::start("ClickHouse", command, &log)?;
        process.wait_until(READY_WITHIN, || answers(http_port, &instance))?;
        Ok(Self { process, http_port, tcp_port })
    }

    /// Where the engine is, when all that a server needs is there.
    ///
    /// # Errors
    /// [`LocalError::Missing`] names what is not there.
    pub fn available() -> Result<PathBuf, LocalError> {
        Paths::program("python3")?;
        Paths::require(Paths::new().clickhouse_engine(), "ClickHouse (its engine)")
    }

    /// The address for clients of the HTTP protocol.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// The port of the native protocol.
    #[must_use]
    pub fn tcp_port(&self) -> u16 {
        self.tcp_port
    }

    /// The server's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Stops it in order and keeps its data; true when it needed no killing.
    pub fn stop(mut self) -> bool {
        self.process.stop()
    }
}

/// Sends one query as `user` and returns the answer's text, without its last line break. The format is the query's
/// (`FORMAT ...`), TSV by default.
///
/// # Errors
/// [`LocalError::ClickHouse`] with the server's own message.
pub fn query(url: &str, user: &str, sql: &str) -> Result<String, LocalError> {
    query_with_password(url, user, "", sql)
}

/// The same, for a server whose users have passwords.
///
/// # Errors
/// [`LocalError::ClickHouse`] with the server's own message.
pub fn query_with_password(url: &str, user: &str, password: &str, sql: &str) -> Result<String, LocalError> {
    let failed = |message: String| LocalError::ClickHouse { url: url.to_owned(), message };
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(ANSWERS_WITHIN)).build().into();
    let mut response = agent
        .post(url)
        .header("X-ClickHouse-User", user)
        .header("X-ClickHouse-Key", password)
        .send(sql)
        .map_err(|problem| failed(problem.to_string()))?;
    let text = response.body_mut().with_config().limit(LONGEST_ANSWER).read_to_string();
    let text = text.map_err(|problem| failed(problem.to_string()))?;
    let text = text.trim_end_matches('\n').to_owned();
    if response.status().is_success() { Ok(text) } else { Err(failed(text)) }
}

/// Whether the server that answers is the one started as `instance`: a busy port would not end ours.
fn answers(http_port: u16, instance: &str) -> Result<(), String> {
    let url = format!("http://127.0.0.1:{http_port}");
    match query(&url, "default", "SELECT getMacro('instance')") {
        Ok(answer) if answer == instance => Ok(()),
        Ok(_) => Err("another server answers on this port".to_owned()),
        Err(problem) => Err(problem.to_string()),
    }
}

fn prepare(directory: &Path, configuration: &Path) -> Result<(), LocalError> {
    for wanted in [configuration, &directory.join("data"), &directory.join("tmp"), &directory.join("backups")] {
        fs::create_dir_all(wanted).map_err(LocalError::file("create", wanted))?;
    }
    // The tables of the server's own logs can't be opened again by this engine and would block the start.
    let logs = directory.join("data/data/system");
    match fs::remove_dir_all(&logs) {
        Err(problem) if problem.kind() != std::io::ErrorKind::NotFound => {
            Err(LocalError::file("remove", &logs)(problem))
        }
        _ => Ok(()),
    }
}

fn config(directory: &Path, (http_port, tcp_port): (u16, u16), instance: &str, more: &str) -> String {
    let path = directory.display();
    format!(
        "<clickhouse>
  <log-level>error</log-level>
  <display_name>hitmeter-local</display_name>
  <macros><instance>{instance}</instance></macros>
  <listen_host>127.0.0.1</listen_host>
  <http_port>{http_port}</http_port>
  <tcp_port>{tcp_port}</tcp_port>
  <path>{path}/data/</path>
  <tmp_path>{path}/tmp/</tmp_path>
  <users_config>{path}/config/users.xml</users_config>
  <user_directories><users_xml><path>{path}/config/users.xml</path></users_xml></user_directories>
  <backups><allowed_path>{path}/backups/</allowed_path></backups>
  <max_server_memory_usage>{MEMORY}</max_server_memory_usage>
  <os_threads_nice_value_merge_mutate>10</os_threads_nice_value_merge_mutate>
  {more}
</clickhouse>
"
    )
}

/// The element `roles` of [`ROLES`].
fn roles() -> &'static str {
    let end = "</roles>";
    match (ROLES.find("<roles>"), ROLES.find(end)) {
        (Some(from), Some(to)) => &ROLES[from..to + end.len()],
        _ => "",
    }
}

/// `readonly` 2 lets an analyst's driver change settings, as most drivers do; the constraints keep the limits. Days that analysts
/// ask for are those of visits, wherever the server stands. A question whose client has gone away ends.
fn users() -> String {
    let limits = [
        ("max_execution_time", ANALYST_SECONDS),
        ("max_memory_usage", ANALYST_MEMORY),
        ("max_rows_to_read", ANALYST_ROWS_READ),
        ("max_result_rows", ANALYST_ROWS),
    ];
    let settings = limits.map(|(name, most)| format!("<{name}>{most}</{name}>")).concat();
    let constraints = limits.map(|(name, most)| format!("<{name}><min>1</min><max>{most}</max></{name}>")).concat();
    let user = |name: &str, profile: &str, grants: &str| {
        format!(
            "<{name}><password></password><networks><ip>127.0.0.1</ip></networks><profile>{profile}</profile>\
             <quota>default</quota>{grants}</{name}>"
        )
    };
    let may = |grant: &str| format!("<grants><query>GRANT {grant}</query></grants>");
    format!(
        "<clickhouse>
  <profiles>
    <default/>
    <analyst><readonly>2</readonly><session_timezone>UTC</session_timezone>\
     <cancel_http_readonly_queries_on_client_close>1</cancel_http_readonly_queries_on_client_close>{settings}<constraints>{constraints}</constraints></analyst>
  </profiles>
  <quotas><default/></quotas>
  {roles}
  <users>
    {default}
    {analyst}
    {without_contacts}
  </users>
</clickhouse>
",
        roles = roles(),
        default = user("default", "default", ""),
        analyst = user("analyst", "analyst", &may("SELECT ON *.*")),
        without_contacts = user("analyst_without_contacts", "analyst", &may("analyst")),
    )
}
