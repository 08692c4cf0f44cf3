//! What the file alone decides about engines: one director has one, and nft cannot do everything.

use std::collections::HashMap;

use crate::lab::validate::Validator;
use crate::spec::text::quote;
use crate::spec::{At, Code, Diagnostic, Field, RawService, Span};

impl<'r> Validator<'r> {
    /// Looks at all services of a director together: its engine owns its rules, so the wish of one
    /// is the wish of all.
    pub(super) fn engines(&mut self) {
        let raw = self.raw;
        let mut wishes: HashMap<&str, &At<String>> = HashMap::new();
        for service in &raw.services {
            let (Some(director), Some(wish)) = (service.director.get(), service.engine.get())
            else {
                continue;
            };
            if !matches!(wish.value.as_str(), "nft" | "ipvs") {
                continue;
            }
            let first = *wishes.entry(&director.value).or_insert(wish);
            if first.value != wish.value {
                let d = Diagnostic::new(
                    Code::TwoEngines,
                    wish.span,
                    format!("director {} has two engines", quote(&director.value)),
                    "another one",
                    "a director has one engine for all its services: take one of the two",
                )
                .and(first.span, "the first one");
                self.diagnostics.push(d);
            }
        }
        for service in &raw.services {
            let wish = service
                .director
                .get()
                .and_then(|d| wishes.get(d.value.as_str()));
            if let Some(wish) = wish.filter(|w| w.value == "nft") {
                self.nft_can(service, wish);
            }
        }
    }

    fn nft_can(&mut self, service: &'r RawService, wish: &At<String>) {
        for (span, what) in beyond_nft(service) {
            let d = Diagnostic::new(
                Code::EngineCannot,
                span,
                format!(
                    "engine `nft` cannot do {what}, which service {} asks for",
                    quote(&service.name.value)
                ),
                "needs the kernel's IPVS",
                "use `engine = \"ipvs\"` or `\"auto\"`: nft does direct routing over IPv4 for TCP \
                 and UDP, with the schedulers `rr`, `wrr` and `sh`",
            )
            .and(wish.span, "the engine");
            self.diagnostics.push(d);
        }
    }
}

/// What a service asks for that `director::NftEngine` does not have. Values that are wrong in
/// themselves are others' to report.
fn beyond_nft(service: &RawService) -> Vec<(Span, String)> {
    let mut list = Vec::new();
    let mut word = |field: &Field<String>, known: &[&str], what: &dyn Fn(&str) -> String| {
        if let Some(at) = field.get().filter(|at| !known.contains(&at.value.as_str())) {
            list.push((at.span, what(&at.value)));
        }
    };
    word(&service.method, &["dr"], &|m| {
        format!("method {}", quote(m))
    });
    word(&service.protocol, &["tcp", "udp"], &|p| {
        format!("protocol {}", quote(p))
    });
    word(&service.scheduler, &["rr", "wrr", "sh"], &|s| {
        format!("scheduler {}", quote(s))
    });
    if let Some(at) = service.vip.get().filter(|at| at.value.contains(':')) {
        list.push((at.span, "IPv6".to_owned()));
    }
    if let Some(at) = service.scheduler_flags.get() {
        list.push((at.span, "scheduler flags".to_owned()));
    }
    if let Some(at) = service.persistent.get() {
        list.push((at.span, "persistence".to_owned()));
    }
    if let Some(at) = service.one_packet.get().filter(|at| at.value) {
        list.push((at.span, "one-packet scheduling".to_owned()));
    }
    let servers = service.servers.get().map_or(&[][..], |l| &l.value);
    for at in servers.iter().flat_map(|s| [s.upper.get(), s.lower.get()]) {
        list.extend(at.map(|at| (at.span, "thresholds".to_owned())));
    }
    list
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::director::{Engine as _, NftEngine};
    use crate::plan::{self, Step};
    use crate::spec::{Code, keys};

    /// What `check` says of a file that asks for nft, and what the engine itself says of the same
    /// service, agree for every key.
    #[test]
    fn the_engine_knows_the_same_limits() {
        let flag = |f: &&str| {
            let scheduler = f.split('-').next().unwrap_or_default();
            format!("scheduler = \"{scheduler}\"\nscheduler_flags = [\"{f}\"]")
        };
        let word = |key: &str, w: &&str| format!("{key} = \"{w}\"");
        let mut wishes: Vec<String> = vec![
            String::new(),
            "persistent = \"5m\"".into(),
            "protocol = \"udp\"\none_packet = true".into(),
            "one_packet = false".into(),
        ];
        wishes.extend(keys::SCHEDULERS.iter().map(|w| word("scheduler", w)));
        wishes.extend(keys::METHODS.iter().map(|w| word("method", w)));
        wishes.extend(keys::PROTOCOLS.iter().map(|w| word("protocol", w)));
        wishes.extend(keys::ACCEPTS.iter().map(|w| word("accept", w)));
        wishes.extend(keys::SCHEDULER_FLAGS.iter().map(flag));
        let mut refused = 0;
        for (wish, server) in wishes
            .iter()
            .map(|w| (w.as_str(), "{ node = \"s\" }"))
            .chain([("", "{ node = \"s\", upper = 9 }")])
        {
            let file = |engine: &str| {
                format!(
                    "name = \"x\"\n[networks.n]\nsubnet = \"10.0.0.0/24\"\n\
                     [nodes.lb]\nforward = true\n\
                     interfaces.e = {{ network = \"n\", address = \"10.0.0.1\" }}\n\
                     [nodes.s]\ngateway = \"lb\"\n\
                     interfaces.e = {{ network = \"n\", address = \"10.0.0.2\" }}\n\
                     [services.w]\nvip = \"10.0.0.1\"\nport = 80\ndirector = \"lb\"\n\
                     servers = [{server}]\nengine = \"{engine}\"\n{wish}\n"
                )
            };
            let path = Path::new("x.toml");
            let lab = crate::lab::load(path, &file("auto")).unwrap_or_else(|d| panic!("{d}"));
            let able = plan::build(&lab).steps.iter().all(|step| match step {
                Step::Director { services, .. } => NftEngine::default().program(services).is_ok(),
                _ => true,
            });
            let (_, told) = crate::lab::check(path, &file("nft"));
            let cannot = told.iter().any(|d| d.code() == Code::EngineCannot);
            assert_eq!(able, !cannot, "{wish} {server}\n{told}");
            refused += u32::from(cannot);
        }
        assert_eq!(refused, 11 + 2 + 1 + 4 + 1 + 1 + 1);
    }
}
