//! How a realserver takes packets for a VIP that it does not have: NAT REDIRECT.

use std::net::IpAddr;

use super::TABLE;
use crate::kernel::nft::{
    Chain, Family, Field, Hook, HookKind, HookPoint, Match, Op, Rule, Ruleset, Selector, Statement,
    Table, Transport, Value,
};

/// Priority of destination NAT, `NF_IP_PRI_NAT_DST` (linux/netfilter_ipv4.h).
const DSTNAT: i32 = -100;

/// The rules of a realserver that takes the traffic of these services (VIP, IP protocol, port)
/// although their VIPs are on none of its interfaces: `ip daddr VIP tcp dport PORT redirect`.
/// Conntrack turns the answers' source back into the VIP. A protocol without ports is left out,
/// an address that occurs twice counts once.
pub fn realserver_redirect(services: &[(IpAddr, u8, u16)]) -> Ruleset {
    let table = |family, ours: fn(&IpAddr) -> bool, daddr| {
        let mut rules: Vec<Rule> = Vec::new();
        for (vip, protocol, port) in services.iter().filter(|s| ours(&s.0)) {
            let Some(transport) = Transport::from_number(*protocol) else {
                continue;
            };
            let rule = Rule::new([
                equals(daddr, Value::Address(*vip)),
                equals(
                    Field::DestinationPort(transport),
                    Value::Number(u32::from(*port)),
                ),
                Statement::Redirect { port: None },
            ]);
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        (!rules.is_empty()).then(|| Table {
            family,
            name: TABLE.to_owned(),
            counters: vec![],
            sets: vec![],
            chains: vec![Chain {
                name: "prerouting".to_owned(),
                hook: Some(Hook {
                    kind: HookKind::Nat,
                    point: HookPoint::Prerouting,
                    priority: DSTNAT,
                    devices: vec![],
                }),
                rules,
            }],
        })
    };
    let tables = [
        table(Family::Ip, IpAddr::is_ipv4, Field::Ip4Destination),
        table(Family::Ip6, IpAddr::is_ipv6, Field::Ip6Destination),
    ];
    Ruleset {
        tables: tables.into_iter().flatten().collect(),
    }
}

pub(super) fn equals(field: Field, right: Value) -> Statement {
    Statement::Match(Match {
        left: Selector::Field(field),
        mask: None,
        op: Op::Eq,
        right,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rule_a_service_and_one_table_a_family() {
        let vip = "172.28.128.3".parse().unwrap();
        let six = "fd00::3".parse().unwrap();
        let services = [
            (vip, 6, 8080),
            (vip, 17, 53),
            (vip, 6, 8080),
            (six, 6, 80),
            (vip, 1, 0),
        ];
        assert_eq!(
            realserver_redirect(&services).to_string(),
            "table ip nslab {\n\
             \tchain prerouting {\n\
             \t\ttype nat hook prerouting priority dstnat; policy accept;\n\
             \t\tip daddr 172.28.128.3 tcp dport 8080 redirect\n\
             \t\tip daddr 172.28.128.3 udp dport 53 redirect\n\
             \t}\n}\n\
             table ip6 nslab {\n\
             \tchain prerouting {\n\
             \t\ttype nat hook prerouting priority dstnat; policy accept;\n\
             \t\tip6 daddr fd00::3 tcp dport 80 redirect\n\
             \t}\n}\n"
        );
        assert_eq!(realserver_redirect(&[]), Ruleset::default());
    }
}
