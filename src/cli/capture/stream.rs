//! Frames as a pcapng stream: what `nslab capture follow` writes.

use std::cell::{RefCell, RefMut};
use std::io::{self, Write};
use std::net::IpAddr;
use std::rc::Rc;

use super::out::Out;
use crate::capture::savefile::{About, Frame, Interface, PcapngWriter, direction};
use crate::report::Shown;

/// A pcapng stream on standard output.
pub(super) struct Stream {
    writer: PcapngWriter<Shared>,
    out: Rc<RefCell<Out>>,
    interfaces: Vec<Described>,
    /// Names of addresses, until they are written.
    names: Vec<(IpAddr, String)>,
}

/// An interface, and the number that it has in the stream once it was described there.
struct Described {
    of: Interface,
    number: Option<usize>,
}

/// Standard output, which is waited for as well as written to.
struct Shared(Rc<RefCell<Out>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().flush()
    }
}

impl Stream {
    /// Begins a stream of these interfaces, in which addresses have these names.
    pub(super) fn new(
        out: Out,
        about: &About,
        interfaces: Vec<Interface>,
        names: Vec<(IpAddr, String)>,
    ) -> Self {
        let out = Rc::new(RefCell::new(out));
        let interfaces = interfaces.into_iter();
        Self {
            writer: PcapngWriter::new(Shared(Rc::clone(&out)), about),
            out,
            interfaces: interfaces
                .map(|of| Described { of, number: None })
                .collect(),
            names,
        }
    }

    /// Describes an interface whose link type and snapshot length are known now.
    pub(super) fn describe(&mut self, n: usize, (link, snaplen): (u32, u32)) -> io::Result<()> {
        let described = &mut self.interfaces[n];
        if described.number.is_none() {
            described.of.link_type = link;
            described.of.snaplen = snaplen;
            described.number = Some(self.writer.interface(&described.of)?);
            // After the first interface: where a stream begins some readers look for one.
            self.writer.names(&std::mem::take(&mut self.names))?;
        }
        Ok(())
    }

    /// Adds a frame of an interface that was described.
    pub(super) fn frame(&mut self, shown: &Shown<'_>) -> io::Result<()> {
        let described = &self.interfaces[shown.interface];
        let Some(interface) = described.number else {
            return Err(io::Error::other("a frame of an unknown interface"));
        };
        self.writer.frame(&Frame {
            interface,
            time_ns: shown.time_ns,
            captured: shown.data,
            wire_len: shown.wire_len,
            direction: direction(shown.link, described.of.mac, shown.data),
        })
    }

    /// Writes what is gathered.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    /// Standard output itself.
    pub(super) fn out(&self) -> RefMut<'_, Out> {
        self.out.borrow_mut()
    }
}
