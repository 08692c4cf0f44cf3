//! The commands' side of the control socket, and how they find a lab.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::protocol::{Reply, Request};
use super::{Error, Event, Record, Result, RunDir};

/// Names of all labs that have a folder, sorted.
pub fn running_labs() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(RunDir::base()) else {
        return Vec::new();
    };
    let mut labs: Vec<String> = entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    labs.sort();
    labs
}

/// The lab that was named, or the only one that is up.
pub fn find_lab(name: Option<&str>) -> Result<RunDir> {
    let mut labs = running_labs();
    match name {
        Some(name) if labs.iter().any(|l| l == name) => Ok(RunDir::of(name)),
        Some(name) => Err(Error::NotUp {
            lab: name.to_owned(),
            running: labs,
        }),
        None if labs.len() > 1 => Err(Error::SeveralLabs(labs)),
        None => labs.pop().map(|l| RunDir::of(&l)).ok_or(Error::NoLab),
    }
}

/// What somebody who follows a lab is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Followed {
    /// Something happened.
    Record(Record),
    /// So many records were skipped because we read too slowly.
    Skipped(u64),
}

/// A connection to a lab's supervisor.
#[derive(Debug)]
pub struct Client {
    lab: String,
    /// Whether [`Event::Down`] was among what was followed.
    down: bool,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::SupervisorDied`] when nobody listens.
    pub fn connect(dir: &RunDir) -> Result<Self> {
        let stream = UnixStream::connect(dir.socket()).map_err(|e| match e.kind() {
            std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound => {
                Error::SupervisorDied {
                    lab: dir.lab().to_owned(),
                }
            }
            std::io::ErrorKind::PermissionDenied => Error::NeedsRoot("..."),
            _ => Error::Talk {
                lab: dir.lab().to_owned(),
                source: e,
            },
        })?;
        let this = Self {
            lab: dir.lab().to_owned(),
            down: false,
            stream: BufReader::new(stream),
        };
        // Every request is answered at once but `down` and `events`, which report as they go.
        this.stream
            .get_ref()
            .set_read_timeout(Some(Duration::from_secs(30)))
            .map_err(|e| this.talk(e))?;
        Ok(this)
    }

    /// A supervisor that is killed while we wait in its queue shows as a reset connection.
    fn talk(&self, source: std::io::Error) -> Error {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
        if matches!(source.kind(), BrokenPipe | ConnectionReset) {
            return Error::SupervisorDied {
                lab: self.lab.clone(),
            };
        }
        Error::Talk {
            lab: self.lab.clone(),
            source,
        }
    }

    fn send(&mut self, request: &Request) -> Result<()> {
        let mut line =
            serde_json::to_vec(request).map_err(|e| self.talk(std::io::Error::other(e)))?;
        line.push(b'\n');
        self.stream
            .get_mut()
            .write_all(&line)
            .map_err(|e| self.talk(e))
    }

    fn receive(&mut self) -> Result<Option<Reply>> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).map_err(|e| self.talk(e))? == 0 {
            return Ok(None);
        }
        match serde_json::from_str(&line).map_err(|e| self.talk(std::io::Error::other(e)))? {
            Reply::Error { message } => Err(Error::Refused(message)),
            reply => Ok(Some(reply)),
        }
    }

    /// Asks and gives the one answer.
    pub fn ask(&mut self, request: &Request) -> Result<Reply> {
        self.send(request)?;
        self.receive()?.ok_or_else(|| Error::SupervisorDied {
            lab: self.lab.clone(),
        })
    }

    /// Asks for all that happens from now on; gives the number of the last record before that.
    pub fn follow(&mut self) -> Result<u64> {
        match self.ask(&Request::Events)? {
            Reply::Following { after } => {
                self.stream
                    .get_ref()
                    .set_read_timeout(None)
                    .map_err(|e| self.talk(e))?;
                Ok(after)
            }
            _ => Err(self.other_answer()),
        }
    }

    /// Waits for the next thing that happens, after [`Client::follow`]; `None` when the lab is gone,
    /// or when nobody reads `out` any more: `nslab events --follow | head -n 1` ends at once and not
    /// with the next event.
    ///
    /// # Errors
    /// [`Error::SupervisorDied`] when the supervisor ended without a word.
    pub fn next(&mut self, out: BorrowedFd<'_>) -> Result<Option<Followed>> {
        if self.stream.buffer().is_empty() && self.reader_goes_first(out)? {
            return Ok(None);
        }
        match self.receive()? {
            Some(Reply::Record { record }) => {
                self.down = matches!(record.event, Event::Down { .. });
                Ok(Some(Followed::Record(record)))
            }
            Some(Reply::Skipped { events }) => Ok(Some(Followed::Skipped(events))),
            Some(_) => Err(self.other_answer()),
            None if self.down => Ok(None),
            None => Err(Error::SupervisorDied {
                lab: self.lab.clone(),
            }),
        }
    }

    /// Waits until the supervisor has said something, or the reader of the pipe `out` is gone.
    fn reader_goes_first(&self, out: BorrowedFd<'_>) -> Result<bool> {
        let socket = self.stream.get_ref().as_fd();
        loop {
            let mut both = [
                PollFd::new(socket, PollFlags::POLLIN),
                PollFd::new(out, PollFlags::empty()),
            ];
            match poll(&mut both, PollTimeout::NONE) {
                Ok(_) => {
                    let errors = both[1].revents().unwrap_or(PollFlags::empty());
                    return Ok(errors.contains(PollFlags::POLLERR) && both[0].any() == Some(false));
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(self.talk(e.into())),
            }
        }
    }

    fn other_answer(&self) -> Error {
        Error::Refused(format!(
            "the supervisor of lab {} gave another answer than asked for",
            self.lab
        ))
    }

    /// Takes the lab down, handing on what is reported; gives what could not be undone.
    pub fn down(&mut self, mut on_event: impl FnMut(&Event)) -> Result<Vec<String>> {
        self.send(&Request::Down)?;
        while let Some(reply) = self.receive()? {
            if let Reply::Event { event } = reply {
                on_event(&event);
                if let Event::Down { errors, .. } = event {
                    return Ok(errors);
                }
            }
        }
        Err(Error::SupervisorDied {
            lab: self.lab.clone(),
        })
    }
}
