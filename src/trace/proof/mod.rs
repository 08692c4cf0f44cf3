//! What captures prove about a balanced service.

mod answers;
mod candidates;
mod changed;
mod conclude;
pub(super) mod director;
mod distribution;
mod drawing;
pub(super) mod evidence;
mod flows;
#[cfg(test)]
mod tests;
mod types;
mod verdicts;
pub(super) mod view;

use std::net::IpAddr;

pub use drawing::{Crossing, Draw, Drawing, End, Passage, Sequence};
pub use types::{
    Evidence, FileRead, Flow, Known, Machine, MatrixRow, Method, Outcome, Proof, Role,
    ServiceProof, Share, Verdict, VerdictId,
};

use super::collect::Trace;
use super::follow::follow;
use super::stations::Stations;
use super::target::{Target, protocol_name, protocol_number};
use super::words::{count, list};
use super::{Error, Source, TopoService, Topology};
use view::View;

/// What to prove.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The VIP, or all of the lab's if none.
    pub vip: Option<IpAddr>,
    /// Port on it; any if none.
    pub port: Option<u16>,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: Option<String>,
    /// The method that it should be (`dr`, `nat`, `tun`), if the lab does not say.
    pub expect: Option<String>,
    /// Names of the director's captures, if there is no lab to tell.
    pub director: Vec<String>,
    /// What is to be drawn, if anything.
    pub draw: Option<Draw>,
}

/// Proves what a lab's captures show of its services.
///
/// # Errors
/// No capture can be read, or there is no such service.
pub fn of_lab(
    topology: &Topology,
    sources: &[Source],
    question: &Question,
) -> Result<Proof, Error> {
    let asked = |s: &&TopoService| {
        question.vip.is_none_or(|vip| vip == s.vip)
            && question.port.is_none_or(|port| port == s.port)
            && question.protocol.as_ref().is_none_or(|p| *p == s.protocol)
    };
    if topology.services.is_empty() && question.vip.is_none() {
        return Err(Error::NoService {
            lab: topology.lab.clone(),
        });
    }
    let services: Vec<_> = topology.services.iter().filter(asked).collect();
    if services.is_empty() {
        let all = topology
            .services
            .iter()
            .map(|s| end(s.vip, Some(s.port)))
            .collect::<Vec<_>>();
        return Err(Error::UnknownVip {
            lab: topology.lab.clone(),
            vip: question
                .vip
                .map_or_else(String::new, |vip| end(vip, question.port)),
            services: list(&all),
        });
    }
    let mut proofs = Vec::new();
    let mut files = Vec::new();
    let mut notes = Vec::new();
    for service in services {
        let target = Target::vip(
            service.vip,
            Some(service.port),
            protocol_number(&service.protocol),
        );
        let translated: Vec<_> = service
            .servers
            .iter()
            .map(|s| std::net::SocketAddr::new(s.address, s.port))
            .collect();
        let trace = Trace::read(sources, &target, &translated)?;
        missing(topology, &trace, &mut notes);
        proofs.push(one(&trace, Some((topology, service)), question)?);
        files = trace.files;
    }
    Ok(sum(Some(topology.lab.clone()), proofs, files, notes))
}

/// Proves what captures show of which nothing else is known.
///
/// # Errors
/// No capture can be read, or it is not clear which address the VIP is.
pub fn of_files(sources: &[Source], question: &Question) -> Result<Proof, Error> {
    let Some(vip) = question.vip else {
        let candidates = candidates::candidates(sources)?;
        return Err(Error::WhichVip { candidates });
    };
    let protocol = question
        .protocol
        .as_deref()
        .and_then(protocol_number)
        // Without a port the machine's own name and time queries would count.
        .or(question.port.is_none().then_some(super::target::TCP));
    let target = Target::vip(vip, question.port, protocol);
    let trace = Trace::read(sources, &target, &[])?;
    let proof = one(&trace, None, question)?;
    Ok(sum(None, vec![proof], trace.files, Vec::new()))
}

fn sum(
    lab: Option<String>,
    services: Vec<ServiceProof>,
    files: Vec<FileRead>,
    mut notes: Vec<String>,
) -> Proof {
    // A service that nobody asked anything of neither proves nor refutes what others show.
    let (silent, used): (Vec<_>, Vec<_>) =
        services.iter().partition(|s| s.method == Method::Nothing);
    let outcome = used.iter().map(|s| s.outcome).max();
    if !used.is_empty() {
        notes.extend(
            silent.iter().filter_map(|s| s.name.as_ref()).map(|name| {
                format!("service {name} had no traffic, so nothing is concluded of it")
            }),
        );
    }
    Proof {
        lab,
        outcome: outcome.unwrap_or(Outcome::Inconclusive),
        services,
        files,
        notes,
    }
}

/// Says which of a lab's interfaces were not captured.
fn missing(topology: &Topology, trace: &Trace, notes: &mut Vec<String>) {
    let missing: Vec<_> = topology
        .nodes
        .iter()
        .flat_map(|n| {
            n.interfaces
                .iter()
                .map(|i| format!("{}:{}", n.name, i.name))
        })
        .filter(|name| !trace.points.iter().any(|p| p.name == *name))
        .collect();
    if !missing.is_empty() && notes.is_empty() {
        notes.push(format!("not captured: {}", list(&missing)));
    }
}

fn one(
    trace: &Trace,
    lab: Option<(&Topology, &TopoService)>,
    question: &Question,
) -> Result<ServiceProof, Error> {
    let stations = Stations::new(trace, lab.map(|(topology, _)| topology));
    let journeys = follow(trace, &stations);
    let told = told(trace, &question.director)?;
    let service = lab.map(|(_, service)| service);
    let interfaces = lab.map_or(0, |(topology, service)| {
        let node = topology.node(&service.director);
        node.map_or(0, |n| n.interfaces.len())
    });
    let director = director::find(
        trace,
        &stations,
        &journeys,
        service.map(|s| (s, interfaces)),
        &told,
    );
    let first = trace.conns.list.first().map(|c| c.flow.server);
    let vip = service
        .map(|s| s.vip)
        .or(question.vip)
        .or(first.map(|f| f.ip()))
        .unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let view = View::new(trace, &stations, &journeys, service, vip, director);
    let declared = service
        .map(|s| s.method.clone())
        .or_else(|| question.expect.clone());
    let method = conclude::overall(&view);
    let expected = declared.as_deref().or(method.word()).unwrap_or("dr");
    let mut verdicts = Vec::new();
    if let Some(declared) = &declared {
        verdicts.push(verdicts::method(&view, declared, method));
    }
    if method != Method::Nothing {
        verdicts.push(verdicts::passed_on(&view));
        verdicts.push(verdicts::both_directions(&view, expected));
        verdicts.push(changed::changed(&view, expected));
        verdicts.push(answers::answers(&view, expected));
        verdicts.push(answers::served(&view));
        verdicts.extend(distribution::distribution(&view));
        verdicts.push(answers::arrived(&view));
        verdicts.extend(verdicts::arp(&view));
    }
    let flows = flows::flows(&view, declared.as_deref());
    Ok(ServiceProof {
        name: service.map(|s| s.name.clone()),
        vip,
        port: service.map(|s| s.port).or(question.port),
        protocol: service
            .map(|s| s.protocol.clone())
            .or_else(|| question.protocol.clone())
            .or_else(|| {
                let flow = trace.conns.list.first()?.flow;
                Some(protocol_name(flow.protocol).to_owned())
            }),
        conclusion: conclude::conclusion(&view, method, &verdicts),
        outcome: conclude::outcome(method, declared.as_deref(), &verdicts),
        director: view.director.as_ref().map(|d| Machine {
            name: d.name.clone(),
            points: d
                .points
                .iter()
                .map(|p| trace.points[*p].name.clone())
                .collect(),
            known: d.known,
        }),
        matrix: flows::matrix(&view),
        drawing: question
            .draw
            .map(|draw| drawing::drawing(&view, &flows, draw)),
        flows: flows.into_iter().map(|(_, flow)| flow).collect(),
        shares: distribution::shares(&view),
        notes: notes(&view),
        declared,
        method,
        verdicts,
    })
}

/// The captures that the user named as the director's.
fn told(trace: &Trace, names: &[String]) -> Result<Vec<usize>, Error> {
    names
        .iter()
        .map(|name| {
            let is = |p: &super::Point| {
                p.name == *name || p.files.iter().any(|f| f.to_string_lossy() == *name)
            };
            trace.points.iter().position(is).ok_or_else(|| {
                let known: Vec<_> = trace.points.iter().map(|p| p.name.as_str()).collect();
                Error::UnknownPoint {
                    name: name.clone(),
                    known: list(&known),
                }
            })
        })
        .collect()
}

fn notes(view: &View<'_>) -> Vec<String> {
    let trace = view.trace;
    let mut notes = trace.notes.clone();
    let own = view.conns.iter().filter(|c| c.own).count() as u64;
    if own > 0 {
        notes.push(format!(
            "{} of the director's own (health checks) left out",
            count(own, "connection")
        ));
    }
    let cut: u64 = trace.points.iter().map(|p| p.cut).sum();
    if cut > 0 {
        notes.push(format!(
            "{} cut by the snapshot length; what was not captured of them was not compared",
            count(cut, "frame")
        ));
    }
    let giants: u64 = trace.survey.points.iter().map(|p| p.giants).sum();
    if giants > 0 {
        notes.push(format!(
            "{} larger than Ethernet's: segmentation was left to the network device (TSO, GRO), so \
             such frames cannot be recognised at other interfaces",
            count(giants, "frame")
        ));
    }
    for error in trace.errors.iter().take(4) {
        notes.push(format!(
            "{} frame {}: {}",
            trace.points[error.point as usize].name, error.number, error.text
        ));
    }
    if trace.errors.len() > 4 {
        notes.push(format!(
            "and {} more such ICMP errors",
            trace.errors.len() - 4
        ));
    }
    notes
}

/// An address with a port, if there is one.
fn end(address: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(
        || address.to_string(),
        |port| std::net::SocketAddr::new(address, port).to_string(),
    )
}
