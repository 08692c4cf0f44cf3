//! Sysctls of nodes.

use std::collections::BTreeMap;

use super::Validator;
use crate::spec::text::quote;
use crate::spec::{At, Code, Diagnostic, RawNode};

/// Where IPVS keeps its sysctls: Documentation/networking/ipvs-sysctl.rst.
const IPVS: &str = "net.ipv4.vs.";

impl Validator<'_> {
    pub(super) fn sysctls(&mut self, node: &RawNode) -> BTreeMap<String, String> {
        let mut sysctls = BTreeMap::new();
        for (name, value) in &node.sysctls {
            let Some(value) = value.get() else { continue };
            let parts: Vec<&str> = name.value.split('.').collect();
            let well_formed = parts.len() > 1
                && parts.iter().all(|p| {
                    !p.is_empty()
                        && p.chars()
                            .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
                });
            let (why, help) = if !well_formed {
                (
                    "is not a sysctl",
                    "write it with dots, as `\"net.ipv4.tcp_syncookies\"`",
                )
            } else if parts[0] != "net" {
                (
                    "is the whole host's, not a node's",
                    "only `net.*` belongs to a network namespace; remove it",
                )
            } else {
                if value.value.is_empty() || value.value.chars().any(char::is_control) {
                    self.report(
                        Code::BadSysctl,
                        value.span,
                        format!("sysctl {} has no usable value", quote(&name.value)),
                        "empty, or with a control character",
                        "write the value as sysctl(8) prints it",
                    );
                } else {
                    self.is_a_directors(node, name);
                    sysctls.insert(name.value.clone(), value.value.clone());
                }
                continue;
            };
            let message = format!("{} {why}", quote(&name.value));
            self.report(Code::BadSysctl, name.span, message, "bad sysctl", help);
        }
        sysctls
    }

    /// The kernel has `net.ipv4.vs.*` in each namespace once IPVS is loaded, but only a director
    /// looks at them.
    fn is_a_directors(&mut self, node: &RawNode, key: &At<String>) {
        let own = &node.name.value;
        let mut directors = self.raw.services.iter().map(|s| &s.director);
        // A director that could not be read may be this one.
        if !key.value.starts_with(IPVS)
            || directors.any(|d| d.get().is_none_or(|at| at.value == *own))
        {
            return;
        }
        let d = Diagnostic::new(
            Code::IpvsSysctl,
            key.span,
            format!(
                "{} on node {}, which is no director",
                quote(&key.value),
                quote(own)
            ),
            "a setting of IPVS",
            "move it to the director of a service, or remove it",
        )
        .and(node.name.span, "balances nothing");
        self.diagnostics.push(d);
    }
}
