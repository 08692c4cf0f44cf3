//! The tables of `nslab service`: what ipvsadm(8) shows with -L, --stats and --rate, in one.

use std::fmt::Write;
use std::net::SocketAddr;

use super::tables::{header, table};
use crate::director::live::{Counters, Rates};
use crate::supervisor::ServiceTable;

/// One block a service: a line that names it, and its servers.
pub fn services(all: &[ServiceTable]) -> String {
    let mut text = String::new();
    for (n, service) in all.iter().enumerate() {
        if n > 0 {
            text.push('\n');
        }
        let state = &service.state;
        let _ = writeln!(
            text,
            "service {} {}/{}, scheduler {}, method {}, engine {} on {}",
            state.name,
            SocketAddr::new(state.vip, state.port),
            state.protocol,
            state.scheduler,
            service.method,
            service.engine,
            service.director,
        );
        let mut rows = vec![header(&[
            "SERVER",
            "ADDRESS",
            "WEIGHT",
            "ACTIVE",
            "INACTIVE",
            "CONNS",
            "PACKETS",
            "BYTES",
            "CONNS/S",
            "PACKETS/S",
            "BYTES/S",
        ])];
        // What comes back through the director is a matter of method nat alone.
        let back = service.method == "nat";
        if back {
            rows[0].extend(header(&[
                "OUT PACKETS",
                "OUT BYTES",
                "OUT PACKETS/S",
                "OUT BYTES/S",
            ]));
        }
        for server in &state.servers {
            let mut row = vec![
                server.name.clone(),
                SocketAddr::new(server.address, server.port).to_string(),
                server.weight.to_string(),
                server.active.to_string(),
                server.inactive.to_string(),
            ];
            row.extend(numbers(&server.counters, server.rates.as_ref(), back));
            rows.push(row);
        }
        let sum = |of: fn(&crate::director::live::ServerState) -> u64| {
            let servers = state.servers.iter();
            servers.map(of).sum::<u64>().to_string()
        };
        let mut row = vec![
            "total".to_owned(),
            String::new(),
            sum(|s| u64::from(s.weight)),
            sum(|s| s.active),
            sum(|s| s.inactive),
        ];
        row.extend(numbers(&state.counters, state.rates.as_ref(), back));
        rows.push(row);
        let right: Vec<_> = (2..rows[0].len()).collect();
        text.push_str(&table(&rows, &right));
        if let Some(health) = &service.health {
            for dead in &health.dead {
                let _ = write!(text, "{}:{} is dead", dead.server, dead.port);
                if !dead.why.is_empty() {
                    let _ = write!(text, ": {}", dead.why);
                }
                text.push('\n');
            }
            if health.live == 0 {
                text.push_str("no live server is left: clients get no answer\n");
            }
        } else if state.servers.is_empty() {
            text.push_str("(no servers: nobody answers)\n");
        } else if state.servers.iter().all(|s| s.weight == 0) {
            text.push_str("(every weight is 0: new connections are not answered)\n");
        }
    }
    text
}

fn numbers(counters: &Counters, rates: Option<&Rates>, back: bool) -> Vec<String> {
    let rate = |of: fn(&Rates) -> f64| rates.map_or_else(|| "-".to_owned(), |r| per_second(of(r)));
    let mut cells = vec![
        counters.connections.to_string(),
        counters.packets_in.to_string(),
        counters.bytes_in.to_string(),
        rate(|r| r.connections),
        rate(|r| r.packets_in),
        rate(|r| r.bytes_in),
    ];
    if back {
        cells.extend([
            counters.packets_out.to_string(),
            counters.bytes_out.to_string(),
            rate(|r| r.packets_out),
            rate(|r| r.bytes_out),
        ]);
    }
    cells
}

/// One digit behind the point where that says something.
fn per_second(rate: f64) -> String {
    if rate == 0.0 {
        "0".to_owned()
    } else if rate < 100.0 {
        format!("{rate:.1}")
    } else {
        format!("{rate:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::live::{ServerState, ServiceState};

    fn server(n: u8, weight: u32) -> ServerState {
        let counters = Counters {
            connections: u64::from(n) * 10,
            packets_in: u64::from(n) * 100,
            bytes_in: u64::from(n) * 12_345,
            packets_out: 7,
            bytes_out: 700,
        };
        ServerState {
            name: format!("server{n}"),
            address: format!("172.28.128.{}", 3 + n).parse().unwrap(),
            port: 8080,
            weight,
            active: 2,
            inactive: 11,
            counters,
            rates: Some(counters.rates(&Counters::default(), 8.0)),
        }
    }

    fn service(method: &str, servers: Vec<ServerState>) -> ServiceTable {
        ServiceTable {
            lab: "dsr".into(),
            director: "lb".into(),
            engine: "ipvs".into(),
            method: method.into(),
            health: None,
            state: ServiceState {
                name: "thredds".into(),
                vip: "172.28.128.3".parse().unwrap(),
                port: 8080,
                protocol: "tcp".into(),
                scheduler: "rr".into(),
                counters: Counters::sum(servers.iter().map(|s| &s.counters)),
                rates: None,
                servers,
            },
        }
    }

    #[test]
    fn a_line_a_server_and_their_sum() {
        assert_eq!(
            services(&[service("dr", vec![server(1, 1), server(2, 0)])]),
            "\
service thredds 172.28.128.3:8080/tcp, scheduler rr, method dr, engine ipvs on lb
SERVER   ADDRESS            WEIGHT  ACTIVE  INACTIVE  CONNS  PACKETS  BYTES  CONNS/S  PACKETS/S  BYTES/S
server1  172.28.128.4:8080       1       2        11     10      100  12345      1.2       12.5     1543
server2  172.28.128.5:8080       0       2        11     20      200  24690      2.5       25.0     3086
total                            1       4        22     30      300  37035        -          -        -
"
        );
    }

    #[test]
    fn nat_shows_what_comes_back_and_nobody_who_answers_is_said() {
        let text = services(&[
            service("nat", vec![server(1, 0)]),
            service("dr", Vec::new()),
        ]);
        assert!(
            text.contains("  OUT PACKETS  OUT BYTES  OUT PACKETS/S  OUT BYTES/S\n"),
            "{text}"
        );
        assert!(
            text.contains("            7        700            0.9         87.5\n"),
            "{text}"
        );
        assert!(
            text.contains("\n(every weight is 0: new connections are not answered)\n\nservice"),
            "{text}"
        );
        assert!(text.ends_with("\n(no servers: nobody answers)\n"), "{text}");
    }
}
