//! All captures of a lab, and what can be done to them while they run.

use std::sync::{Arc, Mutex};

use super::{
    Error, Request, State, Stats, close,
    file::{Kind, Recording},
    folder::Folders,
    lock, now_ns,
    open::{self, Sniffer},
    reader::{Readers, Taps},
    tap::Tap,
};

/// Running captures. Dropping it stops them as [`Captures::stop`] does, without the statistics.
///
/// An interface is known by its position: in the order of the requests, then of those that
/// [`Captures::add`] got.
#[derive(Debug)]
pub struct Captures {
    owner: Option<(u32, u32)>,
    taps: Taps,
    /// None once everything is closed. Held while captures come and go, never while counting.
    readers: Mutex<Option<Readers>>,
}

impl Captures {
    /// Opens a sniffer on every interface, makes the files (each with its pcap header already in
    /// it, owned by this user and group, or root's own), and then starts to read. From its return
    /// on every frame is recorded, beginning with the first after the interface comes up.
    ///
    /// All or nothing: on an error everything opened is closed again and the files made are
    /// removed; files of a former run that had their names are gone, though.
    ///
    /// libpcap opens its sockets without `SOCK_CLOEXEC`, so a process that another thread starts
    /// while this runs may inherit some; those started later do not.
    ///
    /// The ring's slots are cut to the MTU, or to 64 KiB where offloads are on (libpcap's
    /// `setup_mmapped`): set both before. Raises this process's soft `RLIMIT_NOFILE` where many
    /// interfaces need it.
    pub fn start(requests: Vec<Request>, owner: Option<(u32, u32)>) -> Result<Self, Error> {
        let taps = Taps::default();
        let readers = Readers::start(&taps, requests.len())?;
        let captures = Self {
            owner,
            taps,
            readers: Mutex::new(Some(readers)),
        };
        captures.add(requests)?;
        Ok(captures)
    }

    /// Captures more interfaces, all or none of them, as [`Captures::start`] does.
    pub fn add(&self, requests: Vec<Request>) -> Result<(), Error> {
        let readers = lock(&self.readers);
        let readers = readers.as_ref().ok_or(Error::Closed)?;
        let there = lock(&self.taps).clone();
        let interfaces = there.len() + requests.len();
        open::raise_limit(requests.len())?;
        open::check(there.iter().map(|tap| tap.request()).chain(&requests))?;
        let sniffers = open::open_all(&requests.iter().collect::<Vec<_>>(), interfaces)?;
        let mut folders = Folders::default();
        let mut taps = Vec::with_capacity(requests.len());
        let mut outcome = Ok(());
        for (request, sniffer) in requests.into_iter().zip(sniffers) {
            let mut recording = None;
            if outcome.is_ok() {
                let kind = Kind {
                    owner: self.owner,
                    link: open::linktype(&sniffer.capture),
                    snaplen: request.options.snaplen(),
                    rotation: request.options.rotate.unwrap_or_default(),
                };
                match Recording::create(&mut folders, &request.file, kind) {
                    Ok(made) => recording = Some(made),
                    Err(error) => outcome = Err(error),
                }
            }
            taps.push(Arc::new(Tap::new(request, sniffer, recording)));
        }
        // Readers find a tap by its position, so it has to be there first.
        lock(&self.taps).extend(taps.iter().cloned());
        for (n, tap) in taps.iter().enumerate() {
            outcome = outcome.and_then(|()| readers.watch(there.len() + n, tap));
        }
        if outcome.is_err() {
            for (n, tap) in taps.iter().enumerate() {
                readers.ignore(there.len() + n, tap);
                tap.discard();
            }
            lock(&self.taps).truncate(there.len());
            close::all(taps.iter().filter_map(|tap| tap.take()).collect());
        }
        outcome
    }

    /// What each interface's capture has seen so far. Costs a few system calls an interface.
    pub fn stats(&self) -> Vec<Stats> {
        let taps = lock(&self.taps).clone();
        taps.iter().map(|tap| tap.stats()).collect()
    }

    /// Where an interface is, if it was ever captured.
    pub fn position(&self, node: &str, interface: &str) -> Option<usize> {
        lock(&self.taps).iter().position(|tap| {
            let request = tap.request();
            request.node == node && request.interface == interface
        })
    }

    /// Stops the captures at these positions and leaves their files; gives those that ran. What the
    /// kernel held is recorded first.
    pub fn pause(&self, positions: &[usize]) -> Result<Vec<usize>, Error> {
        let readers = lock(&self.readers);
        let readers = readers.as_ref().ok_or(Error::Closed)?;
        let taps = self.at(positions, State::Running);
        let (mut batch, mut captures) = (Vec::new(), Vec::with_capacity(taps.len()));
        for (position, tap) in &taps {
            readers.ignore(*position, tap);
            captures.extend(tap.pause(now_ns(), &mut batch));
        }
        close::all(captures);
        Ok(taps.into_iter().map(|(position, _)| position).collect())
    }

    /// Starts the captures at these positions again, which go on in their files; gives those that
    /// had been stopped. Frames that crossed meanwhile are missing ([`Stats::gaps`]). On an error
    /// those before it run.
    pub fn resume(&self, positions: &[usize]) -> Result<Vec<usize>, Error> {
        let readers = lock(&self.readers);
        let readers = readers.as_ref().ok_or(Error::Closed)?;
        let mut taps = self.at(positions, State::Stopped);
        taps.extend(self.at(positions, State::Ended));
        let interfaces = lock(&self.taps).len();
        let requests: Vec<_> = taps.iter().map(|(_, tap)| tap.request()).collect();
        let mut sniffers = open::open_all(&requests, interfaces)?.into_iter();
        let mut outcome = Ok(());
        for (position, tap) in &taps {
            let Some(sniffer) = sniffers.next() else {
                break;
            };
            // One that ended has its handle still.
            close::all(tap.take().into_iter().collect());
            outcome = tap
                .resume(now_ns(), sniffer)
                .and_then(|()| readers.watch(*position, tap));
            if outcome.is_err() {
                break;
            }
        }
        close::all(sniffers.map(|Sniffer { capture, .. }| capture).collect());
        outcome.map(|()| taps.into_iter().map(|(position, _)| position).collect())
    }

    /// The taps at these positions that are in this state.
    fn at(&self, positions: &[usize], state: State) -> Vec<(usize, Arc<Tap>)> {
        let taps = lock(&self.taps);
        positions
            .iter()
            .filter_map(|at| Some((*at, Arc::clone(taps.get(*at)?))))
            .filter(|(_, tap)| tap.state() == state)
            .collect()
    }

    /// Records what the kernel still holds, closes everything, and says what there was. Frames
    /// that arrive while it runs may or may not be recorded.
    pub fn stop(self) -> Vec<Stats> {
        self.close();
        self.stats()
    }

    /// As [`Captures::stop`], for captures that others may hold, too.
    pub fn close(&self) {
        let Some(readers) = lock(&self.readers).take() else {
            return;
        };
        readers.stop();
        let taps = lock(&self.taps).clone();
        let mut batch = Vec::new();
        for tap in &taps {
            tap.drain(&mut batch);
            tap.settle();
        }
        close::all(taps.iter().filter_map(|tap| tap.take()).collect());
    }
}

impl Drop for Captures {
    fn drop(&mut self) {
        self.close();
    }
}
