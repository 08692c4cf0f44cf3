//! What `nslab doctor` found, a line each.

use super::tables::table;
use crate::doctor::Report;

/// The lines; what is to be done stands below what it is about.
pub fn doctor(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report
        .checks
        .iter()
        .map(|c| {
            vec![
                c.state.as_str().to_owned(),
                c.subject.clone(),
                c.detail.clone(),
            ]
        })
        .collect();
    let lines = table(&rows, &[]);
    let mut text = String::new();
    for (line, check) in lines.lines().zip(&report.checks) {
        text.push_str(line);
        text.push('\n');
        if let Some(advice) = &check.advice {
            text.push_str("         -> ");
            text.push_str(advice);
            text.push('\n');
        }
    }
    if !report.loaded.is_empty() {
        text.push_str("modules that were loaded for this and stay: ");
        text.push_str(&report.loaded.join(" "));
        text.push('\n');
    }
    text.push_str(if report.ok {
        "nslab can work here\n"
    } else {
        "nslab cannot work here as it is\n"
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Check, State};

    #[test]
    fn advice_stands_below() {
        let check = |subject: &str, state, advice: Option<&str>| Check {
            subject: subject.into(),
            state,
            detail: "so".into(),
            advice: advice.map(str::to_owned),
        };
        let report = Report {
            ok: false,
            checks: vec![
                check("root", State::Missing, Some("run it with sudo")),
                check("kernel", State::Ok, None),
                check("nftables", State::Unknown, None),
            ],
            loaded: vec!["ip_vs".into(), "ip_vs_rr".into()],
        };
        assert_eq!(
            doctor(&report),
            "\
MISSING  root      so
         -> run it with sudo
ok       kernel    so
unknown  nftables  so
modules that were loaded for this and stay: ip_vs ip_vs_rr
nslab cannot work here as it is
"
        );
    }
}
