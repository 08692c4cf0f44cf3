use std::io;
use std::net::IpAddr;

use super::batch;
use super::encode;
use super::socket::{Answer, answer, judge};
use super::*;

fn no_devices(name: &str) -> io::Result<u32> {
    match name {
        "eth1" => Ok(3),
        _ => Err(io::Error::from_raw_os_error(libc::ENODEV)),
    }
}

fn field(field: Field, right: Value) -> Statement {
    Statement::Match(Match {
        left: Selector::Field(field),
        mask: None,
        op: Op::Eq,
        right,
    })
}

/// `table FAMILY t` with one chain `c` with these rules.
fn with_rules(family: Family, rules: Vec<Rule>) -> Ruleset {
    Ruleset {
        tables: vec![Table {
            family,
            name: "t".into(),
            counters: vec![],
            sets: vec![],
            chains: vec![Chain {
                name: "c".into(),
                hook: None,
                rules,
            }],
        }],
    }
}

fn with_set(set: Set) -> Ruleset {
    let mut ruleset = with_rules(Family::Netdev, vec![]);
    ruleset.tables[0].sets.push(set);
    ruleset
}

fn slots(elements: Vec<Element>) -> Set {
    Set {
        name: "slots".into(),
        key: vec![Type::Mark],
        data: Some(Type::Mark),
        dynamic: false,
        timeout: None,
        size: None,
        elements,
    }
}

fn error(ruleset: &Ruleset) -> String {
    encode::ruleset(ruleset, &no_devices)
        .unwrap_err()
        .to_string()
}

/// Bytes as hex, one netlink message a line.
fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let len = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
        out.extend(rest[..len].iter().map(|byte| format!("{byte:02x}")));
        out.push('\n');
        rest = &rest[len.next_multiple_of(4)..];
    }
    out
}

/// The rule is, byte for byte, what nft 1.0.6 sends for
/// `ip daddr 10.0.0.1 tcp dport 8080 redirect to :80 comment "vip"` (strace), but for the sequence
/// number and NLM_F_ACK.
#[test]
#[cfg(target_endian = "little")]
fn golden_bytes_of_a_redirect() {
    let rule = Rule {
        statements: vec![
            field(
                Field::Ip4Destination,
                Value::Address("10.0.0.1".parse().unwrap()),
            ),
            field(Field::DestinationPort(Transport::Tcp), Value::Number(8080)),
            Statement::Redirect { port: Some(80) },
        ],
        comment: Some("vip".into()),
    };
    let mut ruleset = with_rules(Family::Ip, vec![rule]);
    ruleset.tables[0].chains[0].hook = Some(Hook {
        kind: HookKind::Nat,
        point: HookPoint::Prerouting,
        priority: -100,
        devices: vec![],
    });
    let messages = encode::ruleset(&ruleset, &no_devices).unwrap();
    // Length, type, flags, sequence number, port; then family, version, resource.
    let table = "0600010074000000 0800020000000000";
    let expected = [
        // The batch begins, for subsystem 10.
        "14000000 1000 0100 01000000 00000000 0000000a".to_owned(),
        // The table made, deleted, made.
        format!("24000000 000a 0104 02000000 00000000 02000000 {table}"),
        "1c000000 020a 0100 03000000 00000000 02000000 0600010074000000".to_owned(),
        format!("24000000 000a 0104 04000000 00000000 02000000 {table}"),
        // The chain: table, name, hook (number, priority), policy, type.
        "48000000 030a 0104 05000000 00000000 02000000 0600010074000000 0600030063000000 \
         14000480 0800010000000000 08000200ffffff9c 0800050000000001 080007006e617400"
            .to_owned(),
        // The rule: table, chain, expressions, comment.
        "94010000 060a 050c 06000000 00000000 02000000 0600010074000000 0600020063000000 64010480 \
         340001800c0001007061796c6f61640024000280080001000000000108000200000000010800030000000010\
         08000400000000042c00018008000100636d700020000280080001000000000108000200000000000c000380\
         080001000a00000124000180090001006d657461000000001400028008000200000000100800010000000001\
         2c00018008000100636d700020000280080001000000000108000200000000000c0003800500010006000000\
         340001800c0001007061796c6f61640024000280080001000000000108000200000000020800030000000002\
         08000400000000022c00018008000100636d700020000280080001000000000108000200000000000c000380\
         060001001f9000002c0001800e000100696d6d6564696174650000001800028008000100000000010c000280\
         0600010000500000240001800a00010072656469720000001400028008000100000000010800030000000002\
         0a00070000047669700000 00"
            .to_owned(),
        // The batch ends.
        "14000000 1100 0100 07000000 00000000 0000000a".to_owned(),
    ];
    let batch = batch::frame(&messages);
    assert_eq!(batch.last, 6);
    let expected = expected.map(|line| line.replace(' ', ""));
    assert_eq!(hex(&batch.bytes).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn an_unknown_device_is_named_before_anything_is_sent() {
    let forward = |device: &str| Statement::Forward {
        device: device.into(),
    };
    let mut ruleset = with_rules(Family::Netdev, vec![Rule::new([forward("eth1")])]);
    assert!(encode::ruleset(&ruleset, &no_devices).is_ok());
    ruleset.tables[0].chains[0]
        .rules
        .push(Rule::new([forward("eth9")]));
    assert_eq!(
        error(&ruleset),
        "rule 2 of chain c in table netdev t needs the interface \"eth9\", which is not in this \
         network namespace"
    );
    ruleset.tables[0].chains[0].rules.clear();
    ruleset.tables[0].chains[0].hook = Some(Hook {
        kind: HookKind::Filter,
        point: HookPoint::Ingress,
        priority: 0,
        devices: vec!["eth1".into(), "eth8".into()],
    });
    assert_eq!(
        error(&ruleset),
        "chain c in table netdev t needs the interface \"eth8\", which is not in this network \
         namespace"
    );
}

#[test]
fn senseless_rulesets_are_refused_with_their_place() {
    let address: IpAddr = "10.0.0.1".parse().unwrap();
    let cases = [
        (
            Family::Ip,
            vec![Statement::Forward {
                device: "eth1".into(),
            }],
            "forwards to a device, which only netdev tables can",
        ),
        (
            Family::Ip,
            vec![Statement::Redirect { port: None }],
            "redirects without a match on tcp or udp before it",
        ),
        (
            Family::Netdev,
            vec![
                field(Field::SourcePort(Transport::Tcp), Value::Number(1)),
                field(Field::SourcePort(Transport::Udp), Value::Number(1)),
            ],
            "asks for fields of TCP and of UDP in one packet",
        ),
        (
            Family::Ip6,
            vec![field(Field::Ip4Source, Value::Address(address))],
            "asks for fields of IPv4 and of IPv6 in one packet",
        ),
        (
            Family::Ip,
            vec![field(
                Field::SourcePort(Transport::Tcp),
                Value::Number(65_536),
            )],
            "compares with a value that does not fit what it is compared with",
        ),
        (
            Family::Ip,
            vec![field(
                Field::SourcePort(Transport::Tcp),
                Value::Address(address),
            )],
            "compares with a value that does not fit what it is compared with",
        ),
        (
            Family::Ip,
            vec![Statement::SetMark(Expr::Counting { modulus: 0 })],
            "has a modulus of 0",
        ),
        (
            Family::Netdev,
            vec![Statement::SetEther {
                field: Field::EtherType,
                mac: [0; 6],
            }],
            "sets a field that is no Ethernet address",
        ),
    ];
    for (family, statements, why) in cases {
        assert_eq!(
            error(&with_rules(family, vec![Rule::new(statements)])),
            format!("rule 1 of chain c in table {family} t {why}")
        );
    }
    let mut ruleset = with_rules(Family::Ip, vec![]);
    ruleset.tables[0].chains[0].name = "1c".into();
    assert_eq!(
        error(&ruleset),
        "chain 1c in table ip t has a name that nft cannot read: a letter or '_' comes first, then \
         letters, digits, '_', '-', '.'"
    );
    ruleset.tables[0].chains[0].name = "c".repeat(256);
    assert!(error(&ruleset).ends_with("has a name of 256 bytes; at most 255 are allowed"));
    let rule = Rule {
        statements: vec![],
        comment: Some("x".repeat(128)),
    };
    assert_eq!(
        error(&with_rules(Family::Ip, vec![rule])),
        "rule 1 of chain c in table ip t has a comment over 127 bytes or with a quote, zero or \
         newline in it"
    );
    let verdict = ElementData::Verdict(Verdict::Drop);
    let element = Element {
        key: vec![Value::Number(0)],
        data: Some(verdict),
    };
    assert_eq!(
        error(&with_set(slots(vec![element]))),
        "elements of map slots in table netdev t do not have the map's data type"
    );
    let element = Element {
        key: vec![Value::Address(address)],
        data: None,
    };
    assert_eq!(
        error(&with_set(slots(vec![element]))),
        "elements of map slots in table netdev t do not have the set's key type"
    );
}

#[test]
fn many_elements_go_in_several_messages_and_none_is_lost() {
    let number = |n: u32| ElementData::Value(Value::Number(n));
    let elements = (0..65_536).map(|n| Element {
        key: vec![Value::Number(n)],
        data: Some(number(n % 3)),
    });
    let ruleset = with_set(slots(elements.collect()));
    let messages = encode::ruleset(&ruleset, &no_devices).unwrap();
    let batch = batch::frame(&messages);
    let mut seen = 0_u32;
    let mut rest = batch.bytes.as_slice();
    while !rest.is_empty() {
        let len = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
        // NFT_MSG_NEWSETELEM; the last attribute is the list, its length a 16-bit number.
        if rest[4..6] == [12, 10] {
            let list = &rest[20 + 8 + 12..len];
            assert_eq!(
                usize::from(u16::from_ne_bytes(list[..2].try_into().unwrap())),
                list.len()
            );
            for element in list[4..].chunks(28) {
                assert_eq!(element[12..16], seen.to_ne_bytes());
                assert_eq!(element[24..28], (seen % 3).to_ne_bytes());
                seen += 1;
            }
        }
        rest = &rest[len.next_multiple_of(4)..];
    }
    assert_eq!(seen, 65_536);
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one ruleset with everything in it, and its text"
)]
fn text_of_a_ruleset() {
    let mark = Selector::Meta(Meta::Mark);
    let key = vec![
        Selector::Field(Field::Ip4Source),
        Selector::Field(Field::SourcePort(Transport::Tcp)),
    ];
    let flags = |mask, op, right| {
        let right = Value::Number(right);
        let left = Selector::Field(Field::TcpFlags);
        Statement::Match(Match {
            left,
            mask: Some(mask),
            op,
            right,
        })
    };
    let mut ruleset = with_rules(
        Family::Netdev,
        vec![
            Rule::new([
                flags(TCP_FIN | TCP_RST, Op::Ne, 0),
                Statement::Delete {
                    map: "m".into(),
                    key: key.clone(),
                },
            ]),
            Rule::new([
                flags(TCP_FIN | TCP_SYN | TCP_ACK, Op::Eq, TCP_SYN | TCP_ACK),
                Statement::Update {
                    map: "m".into(),
                    key: key.clone(),
                    timeout: Some(Duration::from_millis(90_250)),
                },
            ]),
            Rule::new([Statement::SetMark(Expr::Hash {
                of: Field::Ip4Source,
                modulus: 7,
                seed: 0x1f,
            })]),
            Rule::new([Statement::SetMark(Expr::Map {
                key: vec![mark],
                map: "slots".into(),
            })]),
            Rule {
                statements: vec![
                    Statement::Counter,
                    Statement::CountInto("n".into()),
                    Statement::SetEther {
                        field: Field::EtherDestination,
                        mac: [2, 0, 0, 0, 0xab, 1],
                    },
                    Statement::Forward {
                        device: "eth1".into(),
                    },
                ],
                comment: Some("out".into()),
            },
            Rule::new([Statement::Verdict(Verdict::Jump("x".into()))]),
        ],
    );
    let table = &mut ruleset.tables[0];
    table.counters.push("n".into());
    let elements = [(0, 1), (1, 0)].map(|(k, v)| Element {
        key: vec![Value::Number(k)],
        data: Some(ElementData::Value(Value::Number(v))),
    });
    table.sets.push(slots(elements.to_vec()));
    table.sets.push(Set {
        name: "m".into(),
        key: vec![Type::Ipv4, Type::Port],
        data: Some(Type::Mark),
        dynamic: true,
        timeout: Some(Duration::from_hours(25)),
        size: Some(9),
        elements: vec![],
    });
    assert_eq!(
        ruleset.to_string(),
        r#"table netdev t {
	counter n {
	}

	map slots {
		type mark : mark
		elements = { 0x00000000 : 0x00000001, 0x00000001 : 0x00000000 }
	}

	map m {
		type ipv4_addr . inet_service : mark
		size 9
		flags dynamic,timeout
		timeout 1d1h
	}

	chain c {
		tcp flags & (fin | rst) != 0x0 delete @m { ip saddr . tcp sport : meta mark }
		tcp flags & (fin | syn | ack) == (syn | ack) update @m { ip saddr . tcp sport timeout 1m30s250ms : meta mark }
		meta mark set jhash ip saddr mod 7 seed 0x1f
		meta mark set meta mark map @slots
		counter counter name "n" ether daddr set 02:00:00:00:ab:01 fwd to "eth1" comment "out"
		jump x
	}
}
"#
    );
}

fn refused(errno: i32, sequence: u32, detail: Option<&str>) -> Answer {
    Answer {
        sequence,
        errno,
        detail: detail.map(str::to_owned),
    }
}

#[test]
fn an_error_names_the_first_message_that_was_refused() {
    let rule = Rule::new([Statement::SetMark(Expr::Counting { modulus: 2 })]);
    let ruleset = with_rules(Family::Netdev, vec![rule.clone(), rule]);
    let messages = encode::ruleset(&ruleset, &no_devices).unwrap();
    // Begin, three for the table, the chain, two rules.
    let last = batch::frame(&messages).last;
    assert_eq!(last, 7);
    let ok = refused(0, last, None);
    assert!(judge(&messages, last, std::slice::from_ref(&ok), false).is_ok());

    let text = |answers: &[Answer]| {
        judge(&messages, last, answers, true)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        text(&[
            refused(libc::EINVAL, 7, None),
            refused(libc::ENOENT, 6, Some("no numgen")),
            ok
        ]),
        "the kernel refused rule 1 of chain c in table netdev t: No such file or directory (os \
         error 2), no numgen; the kernel may lack CONFIG_NFT_NUMGEN"
    );
    assert_eq!(
        text(&[refused(libc::EPERM, batch::BEGIN, None)]),
        "the kernel refused the batch of 6 messages: Operation not permitted (os error 1); it \
         takes CAP_NET_ADMIN in the network namespace's user namespace"
    );
    assert_eq!(
        text(&[refused(libc::EOPNOTSUPP, batch::BEGIN, None)]),
        "the kernel refused the batch of 6 messages: Operation not supported (os error 95); the \
         kernel may lack CONFIG_NF_TABLES (module nf_tables)"
    );
    assert_eq!(
        text(&[]),
        "the kernel's answer about the batch of 6 messages cannot be understood: more answers \
         came than the socket holds, and none that says why"
    );
    assert_eq!(
        judge(&messages, last, &[], false).unwrap_err().to_string(),
        "the kernel's answer about the batch of 6 messages cannot be understood: the last message \
         was not acknowledged"
    );
}

#[test]
fn reads_the_kernels_own_words() {
    let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
    payload.extend(40_u32.to_ne_bytes()); // the refused message's own length
    payload.extend([0; 12]);
    let tlvs = [
        8_u16.to_ne_bytes().as_slice(), // NLMSGERR_ATTR_OFFS
        &2_u16.to_ne_bytes(),
        &24_u32.to_ne_bytes(),
        &8_u16.to_ne_bytes(), // NLMSGERR_ATTR_MSG
        &1_u16.to_ne_bytes(),
        b"bad\0",
    ]
    .concat();
    let capped = [payload.as_slice(), &tlvs].concat();
    let whole = [payload.as_slice(), &[0; 24], &tlvs].concat();
    let expected = refused(libc::EINVAL, 5, Some("bad"));
    assert_eq!(answer(0x300, 5, &capped).unwrap(), expected);
    assert_eq!(answer(0x200, 5, &whole).unwrap(), expected);
    assert_eq!(
        answer(0x100, 5, &capped).unwrap(),
        refused(libc::EINVAL, 5, None)
    );
    assert!(answer(0, 5, &[1, 2]).is_err());
}
