//! One keep-alive connection with at most one request on its way.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::LoadError;
use super::answer::{self, Answer};

/// A request that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct InFlight {
    /// Its number.
    pub(super) number: u64,
    /// When it should have been sent, nanoseconds since the run began.
    pub(super) intended: u64,
}

/// What came of looking at a connection.
#[derive(Debug)]
pub(super) enum Progress {
    /// Nothing whole yet.
    Waiting,
    /// An answer, and what its body says of accepted hits.
    Answered(InFlight, Answer, Option<u64>),
    /// The server ended the connection; what was on its way has no answer.
    Broken(Option<InFlight>),
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    in_flight: Option<InFlight>,
    unsent: Vec<u8>,
    unread: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Where nobody listens, or the system has no more ports or descriptors.
    pub(super) fn open(address: SocketAddr) -> Result<Self, LoadError> {
        let open = || -> std::io::Result<TcpStream> {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let stream = open().map_err(|cause| LoadError::Connect { address, cause })?;
        Ok(Self { stream, in_flight: None, unsent: Vec::new(), unread: Vec::new() })
    }

    /// Sends a request, as far as the system takes it now.
    pub(super) fn send(&mut self, request: &[u8], in_flight: InFlight) -> Progress {
        self.in_flight = Some(in_flight);
        match self.stream.write(request) {
            Ok(sent) => {
                self.unsent.extend_from_slice(&request[sent..]);
                Progress::Waiting
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.unsent.extend_from_slice(request);
                Progress::Waiting
            }
            Err(_) => Progress::Broken(self.in_flight.take()),
        }
    }

    /// Goes on with what could not be sent at once, and reads. `buffer` is scratch space; while it is not filled there
    /// is nothing more to read, and the next event will tell.
    pub(super) fn proceed(&mut self, buffer: &mut [u8]) -> Result<Progress, LoadError> {
        if !self.unsent.is_empty() && self.send_rest().is_err() {
            return Ok(Progress::Broken(self.in_flight.take()));
        }
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Ok(Progress::Broken(self.in_flight.take())),
                Ok(read) => {
                    let progress = self.take(&buffer[..read])?;
                    if read < buffer.len() || !matches!(progress, Progress::Waiting) {
                        return Ok(progress);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Waiting),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Ok(Progress::Broken(self.in_flight.take())),
            }
        }
    }

    fn send_rest(&mut self) -> std::io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<Progress, LoadError> {
        // Nearly every answer comes whole, and is read where it lies.
        let whole = if self.unread.is_empty() {
            bytes
        } else {
            self.unread.extend_from_slice(bytes);
            &self.unread
        };
        match answer::read(whole).map_err(LoadError::Answer)? {
            Some(answer) => {
                let accepted = answer::accepted(&whole[answer.body..answer.length]);
                self.unread.clear();
                let Some(in_flight) = self.in_flight.take() else {
                    return Err(LoadError::Answer("an answer that nobody asked for".to_owned()));
                };
                Ok(Progress::Answered(in_flight, answer, accepted))
            }
            None => {
                if self.unread.is_empty() {
                    self.unread.extend_from_slice(bytes);
                }
                Ok(Progress::Waiting)
            }
        }
    }
}
