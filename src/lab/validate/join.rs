//! Servers that join a service while the lab runs: judged as if they stood in the file.

use super::{RawLab, validate};
use crate::lab::Lab;
use crate::spec::{Diagnostic, Field, RawServer, Severity};

/// The lab of this text with more servers than it has: each with the name of its service. One that
/// the service has already, by node and port, is replaced. With the lab come the warnings that are
/// due to the new servers.
///
/// # Errors
/// What is wrong with the new servers. Their places in the text say nothing.
pub fn with_servers(
    text: &str,
    joined: &[(String, RawServer)],
) -> Result<(Lab, Vec<Diagnostic>), Vec<Diagnostic>> {
    let (mut raw, _) = crate::spec::parse(text);
    let (_, before) = validate(&raw);
    for (service, server) in joined {
        add(&mut raw, service, server);
    }
    let (lab, after) = validate(&raw);
    let mut new = after;
    new.retain(|d| !before.contains(d));
    if let Some(lab) = lab {
        return Ok((lab, new));
    }
    new.retain(|d| d.severity() == Severity::Error);
    Err(new)
}

fn add(raw: &mut RawLab, service: &str, server: &RawServer) {
    let node = |s: &RawServer| s.node.get().map(|at| at.value.clone());
    let port = |s: &RawServer| s.port.get().map(|at| at.value);
    for known in raw.services.iter_mut().filter(|s| s.name.value == service) {
        let own = known.port.get().map(|at| at.value);
        if let Field::Set(list) = &mut known.servers {
            list.value
                .retain(|s| node(s) != node(server) || port(s).or(own) != port(server).or(own));
            list.value.push(server.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::At;

    const LAB: &str = r#"name = "x"
[networks.lan]
subnet = "10.0.0.0/24"
[networks.other]
subnet = "10.0.1.0/24"
[nodes.lb]
interfaces.eth0 = { network = "lan", address = "10.0.0.1" }
[nodes.a]
interfaces.eth0 = { network = "lan", address = "10.0.0.2" }
[nodes.b]
interfaces.eth0 = { network = "lan", address = "10.0.0.3" }
[nodes.far]
interfaces.eth0 = { network = "other", address = "10.0.1.2" }
[services.web]
vip = "10.0.0.1"
port = 80
director = "lb"
servers = ["a"]
"#;

    fn set<T>(value: T) -> Field<T> {
        let span = (0..0).into();
        Field::Set(At { value, span })
    }

    fn server(node: &str) -> RawServer {
        RawServer {
            node: set(node.to_owned()),
            weight: Field::Absent,
            port: Field::Absent,
            upper: Field::Absent,
            lower: Field::Absent,
        }
    }

    fn join(servers: Vec<RawServer>) -> Result<(Lab, Vec<String>), Vec<String>> {
        let joined: Vec<_> = servers.into_iter().map(|s| ("web".to_owned(), s)).collect();
        let texts = |list: Vec<Diagnostic>| {
            let texts = list.iter();
            texts
                .map(|d| format!("{}; {}", d.message(), d.help()))
                .collect::<Vec<_>>()
        };
        with_servers(LAB, &joined)
            .map(|(lab, warnings)| (lab, texts(warnings)))
            .map_err(texts)
    }

    #[test]
    fn a_good_one_is_in_the_lab_behind_the_others() {
        let heavy = RawServer {
            weight: set(5),
            ..server("a")
        };
        let (lab, warnings) = join(vec![server("b"), heavy]).unwrap();
        let servers = lab.services()[0].servers().iter();
        let servers: Vec<_> = servers.map(|s| (s.node().as_str(), s.weight())).collect();
        assert_eq!(servers, [("b", 1), ("a", 5)]);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("weight 5 has no effect with scheduler `rr`; "));
    }

    #[test]
    fn a_bad_one_is_told_as_in_a_file() {
        let nobody = join(vec![server("nobody")]).unwrap_err();
        assert_eq!(nobody.len(), 1, "{nobody:?}");
        assert!(nobody[0].contains("`nobody`"), "{nobody:?}");
        let far = join(vec![server("far")]).unwrap_err();
        assert!(
            far[0].starts_with("server `far` shares no IPv4 network with director `lb`; "),
            "{far:?}"
        );
        let itself = join(vec![server("lb")]).unwrap_err();
        assert!(
            itself[0].starts_with("server `lb` is the director; "),
            "{itself:?}"
        );
        let mapped = RawServer {
            port: set(81),
            ..server("b")
        };
        let mapped = join(vec![mapped]).unwrap_err();
        assert!(
            mapped[0].starts_with("port mapping from 80 to 81 is impossible in DR; "),
            "{mapped:?}"
        );
    }
}
