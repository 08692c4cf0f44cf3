//! Frames in one line each: when, where, and what.

use std::fmt::Write as _;

use crate::trace::packet::dissect;

/// How frames are shown.
#[derive(Debug, Clone)]
pub struct FrameLines {
    names: Vec<String>,
    width: usize,
    colour: bool,
    macs: bool,
}

/// A frame to be shown.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// Of which interface: a position in the names.
    pub interface: usize,
    /// Link type of the interface's capture (`LINKTYPE_*`).
    pub link: u32,
    /// When it passed, in nanoseconds since 1970.
    pub time_ns: u64,
    /// Its bytes on the wire.
    pub wire_len: u32,
    /// What was captured of it.
    pub data: &'a [u8],
}

impl FrameLines {
    /// For interfaces of these names; `macs` puts the MAC addresses before the rest.
    pub fn new(names: Vec<String>, colour: bool, macs: bool) -> Self {
        let width = names.iter().map(|name| name.chars().count()).max();
        Self {
            width: width.unwrap_or(0),
            names,
            colour,
            macs,
        }
    }

    /// Adds a frame's line to a text.
    pub fn line(&self, of: &Shown<'_>, text: &mut String) {
        let second = of.time_ns / 1_000_000_000 % 86_400;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let micros = of.time_ns / 1_000 % 1_000_000;
        let name = self.names.get(of.interface).map_or("?", String::as_str);
        let width = self.width;
        // Writing into a string cannot fail.
        let _ = if self.colour {
            // The six colours of a terminal that are neither black nor white, after the interface.
            let colour = 31 + (of.interface + 5) % 6;
            write!(
                text,
                "\x1b[2m{hour:02}:{minute:02}:{second:02}.{micros:06}\x1b[0m \x1b[{colour}m{name:<width$}\x1b[0m "
            )
        } else {
            write!(
                text,
                "{hour:02}:{minute:02}:{second:02}.{micros:06} {name:<width$} "
            )
        };
        let packet = dissect(of.link, of.data, of.wire_len);
        let _ = if self.macs {
            writeln!(text, "{packet:#}")
        } else {
            writeln!(text, "{packet}")
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARP: [u8; 42] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0,
        0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
    ];

    fn line(colour: bool, macs: bool, interface: usize) -> String {
        let names = vec!["lb:eth1".to_owned(), "client:eth1".to_owned()];
        let mut text = String::new();
        let shown = Shown {
            interface,
            link: 1,
            time_ns: (86_400 + 3_723) * 1_000_000_000 + 4_005_999,
            wire_len: 42,
            data: &ARP,
        };
        FrameLines::new(names, colour, macs).line(&shown, &mut text);
        text
    }

    #[test]
    fn names_line_up_and_colours_are_the_interfaces() {
        assert_eq!(
            line(false, false, 0),
            "01:02:03.004005 lb:eth1     ARP who has 10.0.0.2? tell 10.0.0.1\n"
        );
        assert_eq!(
            line(false, true, 1),
            "01:02:03.004005 client:eth1 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff \
             ARP who has 10.0.0.2? tell 10.0.0.1\n"
        );
        assert_eq!(
            line(true, false, 1),
            "\x1b[2m01:02:03.004005\x1b[0m \x1b[31mclient:eth1\x1b[0m \
             ARP who has 10.0.0.2? tell 10.0.0.1\n"
        );
        assert_eq!(
            line(true, false, 0),
            "\x1b[2m01:02:03.004005\x1b[0m \x1b[36mlb:eth1    \x1b[0m \
             ARP who has 10.0.0.2? tell 10.0.0.1\n"
        );
    }
}
