//! A ruleset as the text that nft(8) reads. nft has several spellings for some matches and lists
//! what it was given in the one that its version likes; this is the long one (`tcp flags & fin !=
//! 0x0`, not `tcp flags fin`). One thing nft does not list at all: `ether type ip` before `ip daddr`,
//! which it takes for a dependency of its own making although it says more (no VLAN tag).

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::expr::{
    ETHERTYPE_IPV4, Expr, Field, Match, Meta, Op, PACKET_HOST, Selector, Statement, Transport,
    Value, Verdict,
};
use super::{
    Chain, Element, ElementData, Family, Hook, HookKind, HookPoint, Rule, Ruleset, Set, Table, Type,
};

impl Display for Ruleset {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.tables.iter().try_for_each(|t| t.fmt(f))
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
            Self::Netdev => "netdev",
        })
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", self.family, self.name)?;
        let mut gap = "";
        for counter in &self.counters {
            write!(f, "{gap}\tcounter {counter} {{\n\t}}\n")?;
            gap = "\n";
        }
        for set in &self.sets {
            write!(f, "{gap}{set}")?;
            gap = "\n";
        }
        for chain in &self.chains {
            write!(f, "{gap}{chain}")?;
            gap = "\n";
        }
        writeln!(f, "}}")
    }
}

impl Display for Set {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = if self.data.is_some() { "map" } else { "set" };
        write!(
            f,
            "\t{kind} {} {{\n\t\ttype {}",
            self.name,
            join(&self.key, " . ")
        )?;
        if let Some(data) = self.data {
            write!(f, " : {data}")?;
        }
        writeln!(f)?;
        if let Some(size) = self.size {
            writeln!(f, "\t\tsize {size}")?;
        }
        let flags = [
            ("dynamic", self.dynamic),
            ("timeout", self.timeout.is_some()),
        ];
        let flags: Vec<_> = flags.iter().filter(|f| f.1).map(|f| f.0).collect();
        if !flags.is_empty() {
            writeln!(f, "\t\tflags {}", flags.join(","))?;
        }
        if let Some(timeout) = self.timeout {
            writeln!(f, "\t\ttimeout {}", Time(timeout))?;
        }
        if !self.elements.is_empty() {
            let elements = self.elements.iter().map(|e| ShowElement(e, &self.key));
            write!(f, "\t\telements = {{ ")?;
            for (n, element) in elements.enumerate() {
                let comma = if n == 0 { "" } else { ", " };
                write!(f, "{comma}{element}")?;
            }
            writeln!(f, " }}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl Display for Type {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4_addr",
            Self::Ipv6 => "ipv6_addr",
            Self::Port => "inet_service",
            Self::Mark => "mark",
            Self::Verdict => "verdict",
        })
    }
}

struct ShowElement<'a>(&'a Element, &'a [Type]);

impl Display for ShowElement<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (n, part) in self.0.key.iter().enumerate() {
            let dot = if n == 0 { "" } else { " . " };
            match (part, self.1.get(n)) {
                (Value::Number(v), Some(Type::Mark)) => write!(f, "{dot}{v:#010x}")?,
                (v, _) => write!(f, "{dot}{v}")?,
            }
        }
        match &self.0.data {
            None => Ok(()),
            Some(ElementData::Value(Value::Number(v))) => write!(f, " : {v:#010x}"),
            Some(ElementData::Value(v)) => write!(f, " : {v}"),
            Some(ElementData::Verdict(v)) => write!(f, " : {v}"),
        }
    }
}

impl Display for Chain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        if let Some(hook) = &self.hook {
            writeln!(f, "\t\t{hook}")?;
        }
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl Display for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            HookKind::Filter => "filter",
            HookKind::Nat => "nat",
        };
        let point = match self.point {
            HookPoint::Ingress => "ingress",
            HookPoint::Prerouting => "prerouting",
        };
        write!(f, "type {kind} hook {point}")?;
        match self.devices.as_slice() {
            [] => {}
            [one] => write!(f, " device \"{one}\"")?,
            many => write!(f, " devices = {{ {} }}", many.join(", "))?,
        }
        match (self.priority, self.point) {
            (0, _) => write!(f, " priority filter")?,
            (-100, HookPoint::Prerouting) => write!(f, " priority dstnat")?,
            (other, _) => write!(f, " priority {other}")?,
        }
        write!(f, "; policy accept;")
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", join(&self.statements, " "))?;
        match &self.comment {
            Some(comment) => write!(f, " comment \"{comment}\""),
            None => Ok(()),
        }
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Match(m) => m.fmt(f),
            Self::SetMark(e) => write!(f, "meta mark set {e}"),
            Self::SetEther { field, mac } => {
                let mac = mac.map(|byte| format!("{byte:02x}"));
                write!(f, "{field} set {}", mac.join(":"))
            }
            Self::Update { map, key, timeout } => {
                write!(f, "update @{map} {{ {}", join(key, " . "))?;
                if let Some(timeout) = timeout {
                    write!(f, " timeout {}", Time(*timeout))?;
                }
                write!(f, " : meta mark }}")
            }
            Self::Delete { map, key } => {
                write!(f, "delete @{map} {{ {} : meta mark }}", join(key, " . "))
            }
            Self::Dispatch { key, map } => write!(f, "{} vmap @{map}", join(key, " . ")),
            Self::Counter => f.write_str("counter"),
            Self::CountInto(name) => write!(f, "counter name \"{name}\""),
            Self::Redirect { port: None } => f.write_str("redirect"),
            Self::Redirect { port: Some(port) } => write!(f, "redirect to :{port}"),
            Self::Forward { device } => write!(f, "fwd to \"{device}\""),
            Self::Verdict(v) => v.fmt(f),
        }
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let op = match (self.op, self.mask) {
            (Op::Eq, None) => " ",
            (Op::Eq, Some(_)) => " == ",
            (Op::Ne, _) => " != ",
        };
        write!(f, "{}", self.left)?;
        let flags = self.left == Selector::Field(Field::TcpFlags);
        match self.mask {
            None => {}
            Some(mask) if flags => write!(f, " & {}", TcpFlags(mask))?,
            Some(mask) => write!(f, " & {mask:#x}")?,
        }
        f.write_str(op)?;
        match (self.left, self.right) {
            (Selector::Field(Field::EtherType), Value::Number(ETHERTYPE_IPV4)) => f.write_str("ip"),
            (Selector::Meta(Meta::PacketType), Value::Number(PACKET_HOST)) => f.write_str("host"),
            (Selector::Field(Field::TcpFlags), Value::Number(v)) => TcpFlags(v).fmt(f),
            (Selector::Field(Field::Ip4Fragment | Field::EtherType), Value::Number(v)) => {
                write!(f, "{v:#x}")
            }
            (Selector::Meta(Meta::Mark), Value::Number(v)) => write!(f, "{v:#010x}"),
            (_, v) => v.fmt(f),
        }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(v) => write!(f, "{v:#010x}"),
            Self::Counting { modulus } => write!(f, "numgen inc mod {modulus}"),
            Self::Hash { of, modulus, seed } => {
                write!(f, "jhash {of} mod {modulus} seed {seed:#x}")
            }
            Self::Map { key, map } => write!(f, "{} map @{map}", join(key, " . ")),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Selector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(field) => field.fmt(f),
            Self::Meta(Meta::Mark) => f.write_str("meta mark"),
            Self::Meta(Meta::PacketType) => f.write_str("meta pkttype"),
        }
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EtherType => "ether type",
            Self::EtherSource => "ether saddr",
            Self::EtherDestination => "ether daddr",
            Self::Ip4Fragment => "ip frag-off",
            Self::Ip4Source => "ip saddr",
            Self::Ip4Destination => "ip daddr",
            Self::Ip6Source => "ip6 saddr",
            Self::Ip6Destination => "ip6 daddr",
            Self::SourcePort(Transport::Tcp) => "tcp sport",
            Self::SourcePort(Transport::Udp) => "udp sport",
            Self::DestinationPort(Transport::Tcp) => "tcp dport",
            Self::DestinationPort(Transport::Udp) => "udp dport",
            Self::TcpFlags => "tcp flags",
        })
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(v) => v.fmt(f),
            Self::Address(a) => a.fmt(f),
        }
    }
}

/// TCP flags by name, in parentheses if several; none of them is `0x0`.
struct TcpFlags(u32);

impl Display for TcpFlags {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"];
        let names = NAMES
            .iter()
            .enumerate()
            .filter(|(bit, _)| self.0 >> bit & 1 == 1);
        let names: Vec<&str> = names.map(|(_, name)| *name).collect();
        match names.as_slice() {
            [] => f.write_str("0x0"),
            [one] => f.write_str(one),
            many => write!(f, "({})", many.join(" | ")),
        }
    }
}

/// A duration as nft writes it: `15m`, `1m30s`, `250ms`. Parts of milliseconds are lost, as the
/// kernel's timeouts have none.
struct Time(Duration);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let parts = [
            (ms / 86_400_000, "d"),
            (ms / 3_600_000 % 24, "h"),
            (ms / 60_000 % 60, "m"),
            (ms / 1000 % 60, "s"),
            (ms % 1000, "ms"),
        ];
        if ms == 0 {
            return f.write_str("0s");
        }
        parts
            .iter()
            .filter(|p| p.0 > 0)
            .try_for_each(|(n, unit)| write!(f, "{n}{unit}"))
    }
}

fn join<T: Display>(items: &[T], between: &str) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(between)
}
