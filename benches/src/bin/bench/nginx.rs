//! nginx with `empty_gif`: the least that answering a pixel costs, without doing anything about it.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;
use local::{Fate, Process, free_port};

use crate::bed::{Bed, Cores};
use crate::usage::{self, Usage};

/// A running nginx with one worker.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    pub address: SocketAddr,
}

/// Where Debian's package puts it; it is not on every user's `PATH`.
const PROGRAM: &str = "/usr/sbin/nginx";

impl Nginx {
    /// Starts it, where it is installed.
    pub fn start(bed: &Bed, cores: Cores) -> anyhow::Result<Option<Self>> {
        if !fs::exists(PROGRAM)? {
            return Ok(None);
        }
        let address: SocketAddr = format!("127.0.0.1:{}", free_port()?).parse()?;
        let directory = bed.path("nginx");
        fs::create_dir_all(&directory)?;
        let settings = directory.join("nginx.conf");
        fs::write(&settings, configuration(&directory.display().to_string(), address))?;
        let mut command = cores.command(PROGRAM);
        command.arg("-p").arg(&directory).arg("-e").arg(directory.join("error.log")).arg("-c").arg(&settings);
        let log = directory.join("nginx.log");
        let mut process = Process::start_on_lifeline("nginx", &command, &log, Fate::Keep, &directory)?;
        process.wait_until(Duration::from_secs(20), || {
            TcpStream::connect(address).map(|_| ()).map_err(|problem| problem.to_string())
        })?;
        Ok(Some(Self { process, address }))
    }

    /// What it has used so far.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        usage::of_group(self.process.id())
    }

    /// Its version, as it tells it.
    pub fn version() -> anyhow::Result<String> {
        let told = std::process::Command::new(PROGRAM).arg("-v").output().context(PROGRAM)?;
        Ok(String::from_utf8_lossy(&told.stderr).trim().replace("nginx version: ", ""))
    }
}

/// As it would be set up for this purpose alone: no log, connections that stay.
fn configuration(directory: &str, address: SocketAddr) -> String {
    format!(
        "daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    large_client_header_buffers 4 32k;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen {address};
        location = /p.gif {{ empty_gif; }}
    }}
}}
"
    )
}
