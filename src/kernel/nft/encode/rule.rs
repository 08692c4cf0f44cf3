//! A rule's statements as the kernel's expressions: small steps on registers.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute,
    Lookup, Meta as MetaAttribute, MetaKey, Operator, Payload, Register,
};

use super::super::Family;
use super::super::expr::{
    ETHERTYPE_IPV4, Expr, Field, Match, Meta, Op, Selector, Statement, Transport, Value,
};
use super::{OBJECT_COUNTER, milliseconds, number, text, verdict};

/// `enum nft_payload_bases`.
const LINK: u32 = 0;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// `ARPHRD_ETHER` (linux/if_arp.h), a 16-bit number in host order in the kernel.
const ARPHRD_ETHER: u16 = 1;
/// EtherType of IPv6.
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// `NFPROTO_IPV4` and `NFPROTO_IPV6` (linux/netfilter.h).
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
/// `enum nft_dynset_ops`.
const DYNSET_UPDATE: u32 = 1;
const DYNSET_DELETE: u32 = 2;
/// `NF_NAT_RANGE_PROTO_SPECIFIED` (linux/netfilter/nf_nat.h).
const PROTO_SPECIFIED: u32 = 2;

const WIDE: &str = "compares with a value that does not fit what it is compared with";

type Expression = ListAttribute<ExpressionAttribute>;

/// Network protocol of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Net {
    V4,
    V6,
}

/// What has to be known of a packet before a field can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    Ether,
    Net(Net),
    Transport(Transport),
}

/// Where a field lies: base, first byte, length in bytes.
struct Place {
    base: u32,
    offset: u32,
    len: u32,
}

impl Field {
    const fn place(self) -> Place {
        let (base, offset, len) = match self {
            Self::EtherDestination => (LINK, 0, 6),
            Self::EtherSource => (LINK, 6, 6),
            Self::EtherType => (LINK, 12, 2),
            Self::Ip4Fragment => (NETWORK, 6, 2),
            Self::Ip4Source => (NETWORK, 12, 4),
            Self::Ip4Destination => (NETWORK, 16, 4),
            Self::Ip6Source => (NETWORK, 8, 16),
            Self::Ip6Destination => (NETWORK, 24, 16),
            Self::SourcePort(_) => (TRANSPORT, 0, 2),
            Self::DestinationPort(_) => (TRANSPORT, 2, 2),
            Self::TcpFlags => (TRANSPORT, 13, 1),
        };
        Place { base, offset, len }
    }

    const fn layer(self) -> Layer {
        match self {
            Self::EtherDestination | Self::EtherSource | Self::EtherType => Layer::Ether,
            Self::Ip4Fragment | Self::Ip4Source | Self::Ip4Destination => Layer::Net(Net::V4),
            Self::Ip6Source | Self::Ip6Destination => Layer::Net(Net::V6),
            Self::SourcePort(t) | Self::DestinationPort(t) => Layer::Transport(t),
            Self::TcpFlags => Layer::Transport(Transport::Tcp),
        }
    }
}

impl Selector {
    const fn len(self) -> u32 {
        match self {
            Self::Field(f) => f.place().len,
            Self::Meta(Meta::Mark) => 4,
            Self::Meta(Meta::PacketType) => 1,
        }
    }

    /// A number's bytes as this selector has them in a register; `None` if it does not fit.
    fn bytes(self, value: u32) -> Option<Vec<u8>> {
        if self == Self::Meta(Meta::Mark) {
            return Some(value.to_ne_bytes().to_vec());
        }
        let be = value.to_be_bytes();
        let (zeros, bytes) = be.split_at(4_usize.checked_sub(self.len() as usize)?);
        zeros.iter().all(|b| *b == 0).then(|| bytes.to_vec())
    }
}

/// The n-th 4-byte register. The 16-byte ones that nft(8) uses lie over them four by four.
fn register(word: u32) -> Register {
    match word {
        0 => Register::Reg1,
        4 => Register::Reg2,
        8 => Register::Reg3,
        12 => Register::Reg4,
        other => Register::Other(8 + other),
    }
}

/// Makes one rule. What one expression has found out holds for those behind it.
pub(super) struct Encoder {
    family: Family,
    ether: bool,
    net: Option<Net>,
    transport: Option<Transport>,
    out: Vec<Expression>,
    needs: Vec<&'static str>,
}

impl Encoder {
    pub fn new(family: Family) -> Self {
        let net = match family {
            Family::Ip => Some(Net::V4),
            Family::Ip6 => Some(Net::V6),
            Family::Inet | Family::Netdev => None,
        };
        Self {
            family,
            ether: false,
            net,
            transport: None,
            out: vec![],
            needs: vec![],
        }
    }

    /// The expressions, and the kernel options beyond nf_tables itself that they take.
    pub fn finish(self) -> (Vec<Expression>, Vec<&'static str>) {
        (self.out, self.needs)
    }

    /// Adds a statement. `device` is the index of the device that it names, if it names one.
    pub fn statement(&mut self, statement: &Statement, device: u32) -> Result<(), &'static str> {
        match statement {
            Statement::Match(m) => self.compare(m)?,
            Statement::SetMark(expr) => {
                self.expr(expr)?;
                self.push(Expressions::Meta(vec![
                    MetaAttribute::Key(MetaKey::Mark),
                    MetaAttribute::SourceRegister(register(0)),
                ]));
            }
            Statement::SetEther { field, mac } => {
                if !matches!(field, Field::EtherSource | Field::EtherDestination) {
                    return Err("sets a field that is no Ethernet address");
                }
                self.require(field.layer())?;
                self.immediate(DataAttribute::Value(mac.to_vec()));
                let Place { base, offset, len } = field.place();
                self.push(Expressions::Payload(vec![
                    Payload::SourceRegister(register(0)),
                    Payload::Base(base),
                    Payload::Offset(offset),
                    Payload::Len(len),
                ]));
            }
            Statement::Update { map, key, timeout } => {
                let timeout = timeout.map(milliseconds);
                self.dynset(DYNSET_UPDATE, map, key, timeout)?;
            }
            Statement::Delete { map, key } => self.dynset(DYNSET_DELETE, map, key, None)?,
            Statement::Dispatch { key, map } => self.lookup(key, map, Register::Verdict)?,
            Statement::Counter => {
                self.needs("CONFIG_NFT_COUNTER");
                self.other("counter", vec![]);
            }
            // NFTA_OBJREF_IMM_TYPE, _IMM_NAME.
            Statement::CountInto(name) => {
                self.needs("CONFIG_NFT_OBJREF");
                self.other("objref", vec![number(1, OBJECT_COUNTER), text(2, name)]);
            }
            Statement::Redirect { port } => self.redirect(*port)?,
            Statement::Forward { .. } => {
                if self.family != Family::Netdev {
                    return Err("forwards to a device, which only netdev tables can");
                }
                self.needs("CONFIG_NFT_FWD_NETDEV");
                self.immediate(DataAttribute::Value(device.to_ne_bytes().to_vec()));
                // NFTA_FWD_SREG_DEV.
                self.other("fwd", vec![number(1, register(0).into())]);
            }
            Statement::Verdict(v) => self.push(Expressions::Immediate(vec![
                Immediate::DestinationRegister(Register::Verdict),
                Immediate::Data(verdict(v)),
            ])),
        }
        Ok(())
    }

    fn redirect(&mut self, port: Option<u16>) -> Result<(), &'static str> {
        if self.transport.is_none() {
            return Err("redirects without a match on tcp or udp before it");
        }
        self.needs("CONFIG_NFT_REDIR");
        let Some(port) = port else {
            self.other("redir", vec![]);
            return Ok(());
        };
        self.immediate(DataAttribute::Value(port.to_be_bytes().to_vec()));
        // NFTA_REDIR_REG_PROTO_MIN, _FLAGS.
        self.other(
            "redir",
            vec![number(1, register(0).into()), number(3, PROTO_SPECIFIED)],
        );
        Ok(())
    }

    fn push(&mut self, expression: Expressions) {
        self.out.push(expression.into());
    }

    fn other(&mut self, name: &str, attributes: Vec<DefaultNla>) {
        self.push(Expressions::Other {
            expression_type: name.to_owned(),
            attributes,
        });
    }

    fn needs(&mut self, option: &'static str) {
        if !self.needs.contains(&option) {
            self.needs.push(option);
        }
    }

    fn immediate(&mut self, data: DataAttribute) {
        self.push(Expressions::Immediate(vec![
            Immediate::DestinationRegister(register(0)),
            Immediate::Data(data),
        ]));
    }

    fn cmp(&mut self, op: Operator, data: Vec<u8>) {
        self.push(Expressions::Cmp(vec![
            Cmp::SourceRegister(register(0)),
            Cmp::Op(op),
            Cmp::Data(DataAttribute::Value(data)),
        ]));
    }

    fn load_meta(&mut self, key: MetaKey, word: u32) {
        self.push(Expressions::Meta(vec![
            MetaAttribute::Key(key),
            MetaAttribute::DestinationRegister(register(word)),
        ]));
    }

    /// Reads into a register; what the field takes must have been required before.
    fn load(&mut self, from: Selector, word: u32) {
        match from {
            Selector::Meta(Meta::Mark) => self.load_meta(MetaKey::Mark, word),
            Selector::Meta(Meta::PacketType) => self.load_meta(MetaKey::PacketType, word),
            Selector::Field(field) => {
                let Place { base, offset, len } = field.place();
                self.push(Expressions::Payload(vec![
                    Payload::DestinationRegister(register(word)),
                    Payload::Base(base),
                    Payload::Offset(offset),
                    Payload::Len(len),
                ]));
            }
        }
    }

    /// Makes sure that a layer is what a field takes it for, unless the rule has done so already.
    fn require(&mut self, layer: Layer) -> Result<(), &'static str> {
        match layer {
            Layer::Ether if !self.ether => {
                self.load_meta(MetaKey::Iftype, 0);
                self.cmp(Operator::Equal, ARPHRD_ETHER.to_ne_bytes().to_vec());
                self.ether = true;
            }
            Layer::Net(net) if self.net.is_none() => {
                let (nfproto, ethertype) = match net {
                    Net::V4 => (NFPROTO_IPV4, ETHERTYPE_IPV4 as u16),
                    Net::V6 => (NFPROTO_IPV6, ETHERTYPE_IPV6),
                };
                if self.family == Family::Netdev {
                    self.load_meta(MetaKey::EtherTypeProtocol, 0);
                    self.cmp(Operator::Equal, ethertype.to_be_bytes().to_vec());
                } else {
                    self.load_meta(MetaKey::Nfproto, 0);
                    self.cmp(Operator::Equal, vec![nfproto]);
                }
                self.net = Some(net);
            }
            Layer::Net(net) if self.net != Some(net) => {
                return Err("asks for fields of IPv4 and of IPv6 in one packet");
            }
            Layer::Transport(transport) if self.transport.is_none() => {
                self.load_meta(MetaKey::L4Proto, 0);
                self.cmp(Operator::Equal, vec![transport.number()]);
                self.transport = Some(transport);
            }
            Layer::Transport(transport) if self.transport != Some(transport) => {
                return Err("asks for fields of TCP and of UDP in one packet");
            }
            _ => {}
        }
        Ok(())
    }

    fn require_all(&mut self, key: &[Selector]) -> Result<(), &'static str> {
        for part in key {
            if let Selector::Field(field) = part {
                self.require(field.layer())?;
            }
        }
        Ok(())
    }

    /// Loads a key's parts side by side; returns how many words they take.
    fn key(&mut self, key: &[Selector], first: u32) -> Result<u32, &'static str> {
        self.require_all(key)?;
        let mut word = first;
        for part in key {
            self.load(*part, word);
            word += part.len().div_ceil(4);
        }
        if word > 16 {
            Err("has a key of more than 64 bytes")
        } else {
            Ok(word - first)
        }
    }

    fn compare(&mut self, m: &Match) -> Result<(), &'static str> {
        if let Selector::Field(field) = m.left {
            self.require(field.layer())?;
        }
        self.load(m.left, 0);
        let value = match (m.left, m.right) {
            (_, Value::Number(n)) => m.left.bytes(n).ok_or(WIDE)?,
            (
                Selector::Field(Field::Ip4Source | Field::Ip4Destination),
                Value::Address(std::net::IpAddr::V4(a)),
            ) => a.octets().to_vec(),
            (
                Selector::Field(Field::Ip6Source | Field::Ip6Destination),
                Value::Address(std::net::IpAddr::V6(a)),
            ) => a.octets().to_vec(),
            _ => return Err(WIDE),
        };
        if let Some(mask) = m.mask {
            let mask = m.left.bytes(mask).ok_or(WIDE)?;
            self.push(Expressions::Bitwise(vec![
                Bitwise::SourceRegister(register(0)),
                Bitwise::DestinationRegister(register(0)),
                Bitwise::Length(m.left.len()),
                Bitwise::Xor(DataAttribute::Value(vec![0; mask.len()])),
                Bitwise::Mask(DataAttribute::Value(mask)),
            ]));
        }
        let ipv4 = Selector::Field(Field::EtherType) == m.left
            && m.mask.is_none()
            && m.op == Op::Eq
            && m.right == Value::Number(ETHERTYPE_IPV4);
        if ipv4 {
            if self.net == Some(Net::V6) {
                return Err("asks for fields of IPv4 and of IPv6 in one packet");
            }
            self.net = Some(Net::V4);
        }
        self.cmp(
            match m.op {
                Op::Eq => Operator::Equal,
                Op::Ne => Operator::NotEqual,
            },
            value,
        );
        Ok(())
    }

    /// Puts a number into the first register, in host order.
    fn expr(&mut self, expr: &Expr) -> Result<(), &'static str> {
        const MODULUS: &str = "has a modulus of 0";
        match expr {
            Expr::Number(n) => self.immediate(DataAttribute::Value(n.to_ne_bytes().to_vec())),
            Expr::Counting { modulus: 0 } | Expr::Hash { modulus: 0, .. } => return Err(MODULUS),
            // NFTA_NG_DREG, _MODULUS, _TYPE (NFT_NG_INCREMENTAL), _OFFSET.
            Expr::Counting { modulus } => {
                self.needs("CONFIG_NFT_NUMGEN");
                let dreg = register(0).into();
                let attributes = vec![
                    number(1, dreg),
                    number(2, *modulus),
                    number(3, 0),
                    number(4, 0),
                ];
                self.other("numgen", attributes);
            }
            // NFTA_HASH_SREG, _DREG, _LEN, _MODULUS, _SEED, _OFFSET, _TYPE (NFT_HASH_JENKINS).
            Expr::Hash { of, modulus, seed } => {
                self.needs("CONFIG_NFT_HASH");
                self.key(&[Selector::Field(*of)], 4)?;
                let attributes = vec![
                    number(1, register(4).into()),
                    number(2, register(0).into()),
                    number(3, of.place().len),
                    number(4, *modulus),
                    number(5, *seed),
                    number(6, 0),
                    number(7, 0),
                ];
                self.other("hash", attributes);
            }
            Expr::Map { key, map } => self.lookup(key, map, register(0))?,
        }
        Ok(())
    }

    fn lookup(&mut self, key: &[Selector], map: &str, to: Register) -> Result<(), &'static str> {
        self.key(key, 0)?;
        self.push(Expressions::Lookup(vec![
            Lookup::Set(map.to_owned()),
            Lookup::SourceRegister(register(0)),
            Lookup::DestinationRegister(to),
        ]));
        Ok(())
    }

    fn dynset(
        &mut self,
        op: u32,
        map: &str,
        key: &[Selector],
        timeout: Option<u64>,
    ) -> Result<(), &'static str> {
        // The value goes behind the key, where nft(8) has it: in the next 16-byte register.
        let data = self.key(key, 0)?.next_multiple_of(4);
        self.load(Selector::Meta(Meta::Mark), data);
        // NFTA_DYNSET_SET_NAME, _OP, _SREG_KEY, _SREG_DATA, _TIMEOUT.
        let mut attributes = vec![
            text(1, map),
            number(3, op),
            number(4, register(0).into()),
            number(5, register(data).into()),
        ];
        if let Some(timeout) = timeout {
            attributes.push(DefaultNla::new(6, timeout.to_be_bytes().to_vec()));
        }
        self.other("dynset", attributes);
        Ok(())
    }
}
