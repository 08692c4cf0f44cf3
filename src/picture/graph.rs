//! A scene as boxes and edges, for languages that lay graphs out themselves.

use super::scene::Scene;

/// Boxes and edges with their lines of text.
pub(super) struct Graph {
    pub boxes: Vec<Box>,
    pub edges: Vec<Edge>,
}

pub(super) struct Box {
    /// `net0` or `node0`.
    pub id: String,
    pub kind: BoxKind,
    pub lines: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum BoxKind {
    Network,
    Router,
    Host,
    Node,
}

pub(super) struct Edge {
    /// What is drawn above.
    pub from: String,
    pub to: String,
    pub kind: EdgeKind,
    pub lines: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EdgeKind {
    /// An interface on its network, without direction.
    Link,
    /// From a machine to its gateway.
    Gateway,
    /// From a director to a realserver.
    Service,
}

impl Graph {
    pub fn of(scene: &Scene) -> Self {
        let mut graph = Self {
            boxes: Vec::new(),
            edges: Vec::new(),
        };
        for (n, network) in scene.networks.iter().enumerate() {
            graph.boxes.push(Box {
                id: format!("net{n}"),
                kind: BoxKind::Network,
                lines: vec![network.name.clone(), network.subnet.clone()],
            });
        }
        for (n, machine) in scene.machines.iter().enumerate() {
            let name = std::slice::from_ref(&machine.name);
            graph.boxes.push(Box {
                id: format!("node{n}"),
                kind: match machine {
                    m if m.host => BoxKind::Host,
                    m if m.forward => BoxKind::Router,
                    _ => BoxKind::Node,
                },
                lines: [name, &scene.roles(n)].concat(),
            });
        }
        graph.links(scene);
        graph.gateways(scene);
        graph.services(scene);
        graph
    }

    fn links(&mut self, scene: &Scene) {
        for (n, machine) in scene.machines.iter().enumerate() {
            for (p, port) in machine.ports.iter().enumerate() {
                let (node, net) = (format!("node{n}"), format!("net{}", port.network));
                let (from, to) = if scene.is_above(n, p) {
                    (node, net)
                } else {
                    (net, node)
                };
                self.edges.push(Edge {
                    from,
                    to,
                    kind: EdgeKind::Link,
                    lines: [std::slice::from_ref(&port.name), &port.addresses].concat(),
                });
            }
        }
    }

    fn gateways(&mut self, scene: &Scene) {
        for (n, machine) in scene.machines.iter().enumerate() {
            if let Some(gateway) = &machine.gateway
                && let Some(to) = gateway.machine
            {
                self.edges.push(Edge {
                    from: format!("node{n}"),
                    to: format!("node{to}"),
                    kind: EdgeKind::Gateway,
                    lines: vec![format!("gateway {}", gateway.address)],
                });
            }
        }
    }

    fn services(&mut self, scene: &Scene) {
        for service in &scene.services {
            for server in &service.servers {
                self.edges.push(Edge {
                    from: format!("node{}", service.director),
                    to: format!("node{}", server.machine),
                    kind: EdgeKind::Service,
                    lines: vec![
                        service.name.clone(),
                        service.address.clone(),
                        format!(
                            "{}, {}, weight {}",
                            service.scheduler, service.method, server.weight
                        ),
                    ],
                });
            }
        }
    }
}
